//! Writes the definitions of families to the server, where other processes find them.
//!
//! The BackendAction thread calls it before it sends changes. Definitions are written when they are declared,
//! again before they would expire, and again when the server may have lost them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::connection::{command, refused};
use super::layout;
use super::link::ServerRun;
use super::reply::{concerns_key, describe};
use super::shared::Shared;
use crate::model::definition::Definition;
use crate::model::error::Result;

/// How many definitions are kept before those of families that are gone are first dropped.
const FIRST_SWEEP: usize = 64;

/// How long after a write a definition is not written again when its family gets its first values.
const FRESH: Duration = Duration::from_secs(1);

/// The definitions that must be written to the server.
#[derive(Debug)]
pub(crate) struct Announcer {
    shared: Arc<Shared>,
    /// By the name of the family. The last declaration stands.
    waiting: BTreeMap<String, Definition>,
    written: Option<Written>,
    /// When each definition was last written to a server that has not lost it since, as far as known.
    known: BTreeMap<String, Instant>,
    /// Whether the server refused the key of the definitions the last time.
    is_refused: bool,
    /// The number of definitions at which those of families that are gone are dropped next.
    sweep_at: usize,
}

/// When and where definitions were last written.
#[derive(Debug)]
struct Written {
    at: Instant,
    server: ServerRun,
}

/// Definitions, and the commands that write them.
#[derive(Debug)]
pub(crate) struct Announcement {
    key: String,
    definitions: BTreeMap<String, Definition>,
    values: Values,
    pub(crate) commands: Vec<Cmd>,
}

impl Announcer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            waiting: BTreeMap::new(),
            written: None,
            known: BTreeMap::new(),
            is_refused: false,
            sweep_at: FIRST_SWEEP,
        }
    }

    /// Notes a definition that is to be written.
    pub(crate) fn note(&mut self, definition: Definition) {
        self.waiting.insert(definition.name().to_owned(), definition);
        if self.waiting.len() + self.known.len() >= self.sweep_at {
            // A program may declare any number of short-lived families.
            let families = self.shared.table.live_families();
            let live: HashSet<&str> = families.iter().map(|family| family.definition.name()).collect();
            self.waiting.retain(|name, _| live.contains(name.as_str()));
            self.known.retain(|name, _| live.contains(name.as_str()));
            self.sweep_at = FIRST_SWEEP.max(2 * (self.waiting.len() + self.known.len()));
        }
    }

    /// Notes the definition of a family that now gets its first values, unless it was written a moment ago.
    /// The server's copy may have been deleted since it was written.
    pub(crate) fn require(&mut self, definition: &Definition) {
        let is_fresh = |written: &Instant| written.elapsed() < FRESH;
        if !self.known.get(definition.name()).is_some_and(is_fresh) {
            self.note(definition.clone());
        }
    }

    /// Notes the definitions of all families that are alive, because the server may not have them.
    pub(crate) fn note_all(&mut self) {
        self.written = None;
        self.known.clear();
        for family in self.shared.table.live_families() {
            self.waiting.insert(family.definition.name().to_owned(), family.definition.clone());
        }
    }

    /// Forgets when definitions were written, because all of them were deleted on purpose.
    pub(crate) fn forget(&mut self) {
        self.known.clear();
    }

    /// Returns whether definitions that are missing on `server` were deleted on purpose. That is so if the
    /// server has not been restarted since they were written, because then it cannot have lost them.
    pub(crate) fn is_emptied(&self, server: &ServerRun) -> bool {
        self.written.as_ref().is_some_and(|written| written.server.is_same_run(server))
    }

    /// Returns whether definitions wait to be written.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns whether the server keeps definitions of this process, as far as known.
    pub(crate) fn has_written(&self) -> bool {
        self.written.is_some()
    }

    /// Returns the definitions to write now, if there are any. These are the new ones, or all of them if they
    /// would soon expire or `server` may not have them. `values` describes the values of this process, which
    /// are sent next.
    pub(crate) fn prepare(&mut self, server: &ServerRun, values: Values) -> Option<Announcement> {
        let expiry = self.shared.options.expire_key_time;
        let refresh = Duration::from_secs(expiry) / 3;
        let is_old =
            expiry > 0 && self.written.as_ref().is_some_and(|written| written.at.elapsed() > refresh);
        let is_uncertain = self.is_uncertain(server, values);
        if self.waiting.is_empty() && !is_uncertain && !(is_old && values.are_waiting) {
            return None;
        }
        if is_old || is_uncertain {
            self.note_all();
        }
        let key = layout::definitions_key(self.shared.prefix());
        let definitions = std::mem::take(&mut self.waiting);
        let mut commands: Vec<Cmd> = Vec::new();
        for (name, definition) in &definitions {
            commands.push(command("HGET", &[&key, name]));
            commands.push(command("HSET", &[&key, name, &definition.to_json()]));
        }
        commands.push(layout::renew(&key, expiry));
        Some(Announcement { key, definitions, values, commands })
    }

    /// Returns whether `server` may lack definitions that were written before. If it is another server than
    /// then, the epochs of confirmed values show it. Without such values, nothing does.
    fn is_uncertain(&self, server: &ServerRun, values: Values) -> bool {
        !values.are_confirmed
            && self.written.as_ref().is_some_and(|written| !written.server.is_same_run(server))
    }

    /// Takes back an announcement that could not be made.
    pub(crate) fn take_back(&mut self, announcement: Announcement) {
        for (name, definition) in announcement.definitions {
            self.waiting.entry(name).or_insert(definition);
        }
    }

    /// Handles the server's replies to an announcement. An error means that the server refuses to serve.
    pub(crate) fn take_replies(
        &mut self,
        announcement: Announcement,
        replies: &[Value],
        server: ServerRun,
    ) -> Result<()> {
        let Announcement { key, definitions, values, .. } = &announcement;
        let is_uncertain = self.is_uncertain(&server, *values);
        let mut refusal = None;
        for (definition, pair) in definitions.values().zip(replies.chunks(2)) {
            match pair {
                [Value::ServerError(error), _] | [_, Value::ServerError(error)] if concerns_key(error) => {
                    refusal = Some(describe(error));
                }
                [Value::ServerError(error), _] | [_, Value::ServerError(error)] => {
                    let error = refused(&self.shared.options.address, error);
                    self.take_back(announcement);
                    return Err(error);
                }
                [known, _] => warn_of_conflict(known, definition),
                _ => {}
            }
        }
        if let (Some(error), false) = (&refusal, self.is_refused) {
            log::error!(
                "Redis key {key:?} is refused: {error}; other processes cannot see the definitions of metric families"
            );
        }
        self.is_refused = refusal.is_some();
        if refusal.is_none() {
            let now = Instant::now();
            if is_uncertain {
                // The exchange connected again, so the definitions that were written before may be missing.
                self.note_all();
                self.waiting.retain(|name, _| !announcement.definitions.contains_key(name));
            }
            self.known.extend(announcement.definitions.into_keys().map(|name| (name, now)));
            self.written = Some(Written { at: now, server });
        } else {
            self.written = None;
        }
        Ok(())
    }
}

/// What is known of the values of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values {
    /// Whether some wait to be sent.
    pub(crate) are_waiting: bool,
    /// Whether the server has confirmed some.
    pub(crate) are_confirmed: bool,
}

/// Warns if another process has declared the family in another way. That is no failure, because the other
/// process may run an old version of the program that is being replaced.
fn warn_of_conflict(known: &Value, definition: &Definition) {
    let Value::BulkString(bytes) = known else { return };
    let text = String::from_utf8_lossy(bytes);
    match Definition::from_json(definition.name(), &text) {
        Ok(other) if other.is_compatible(definition) => {}
        Ok(other) => log::warn!(
            "metric family {:?} is declared here as {}, but another process has declared it as {}",
            definition.name(),
            definition.describe(),
            other.describe()
        ),
        Err(error) => log::warn!("{error}; it was replaced"),
    }
}
