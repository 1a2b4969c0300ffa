//! Writes the definitions of families to the server, where other processes find them.
//!
//! The BackendAction thread calls it before it sends changes. Definitions are written when they are declared, again
//! before they would expire, and again when the server may have lost them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::connection::{command, refused};
use super::layout;
use super::link::Link;
use super::reply::{concerns_key, describe};
use super::shared::Shared;
use crate::model::definition::Definition;
use crate::model::error::Result;

/// The definitions that the server is to get.
#[derive(Debug)]
pub(crate) struct Announcer {
    shared: Arc<Shared>,
    waiting: Vec<Definition>,
    written: Option<Written>,
    /// Whether the server refused the key of the definitions the last time.
    is_refused: bool,
}

/// When and where definitions were last written.
#[derive(Debug)]
struct Written {
    at: Instant,
    /// The number of the connection.
    connection: u64,
}

impl Announcer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, waiting: Vec::new(), written: None, is_refused: false }
    }

    /// Notes a definition that is to be written.
    pub(crate) fn note(&mut self, definition: Definition) {
        self.waiting.push(definition);
    }

    /// Notes the definitions of all families that are alive. The server may have lost them, or never got them.
    pub(crate) fn note_all(&mut self) {
        self.written = None;
        let families = self.shared.table.live_families();
        self.waiting.extend(families.iter().map(|family| family.definition.clone()));
    }

    /// Returns whether definitions wait to be written.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns whether the server keeps definitions of this process, as far as known.
    pub(crate) fn has_written(&self) -> bool {
        self.written.is_some()
    }

    /// Writes the definitions that are new, or so old that they would expire.
    ///
    /// `values`: what is known of the values of this process, which are sent next.
    pub(crate) fn announce(&mut self, link: &mut Link, values: Values) -> Result<()> {
        let options = &self.shared.options;
        let refresh = Duration::from_secs(options.expire_key_time) / 3;
        let is_old = self.written.as_ref().is_some_and(|written| written.at.elapsed() > refresh);
        // On another connection it may be another server. The epochs of the values tell, if there are values.
        let is_uncertain = !values.are_confirmed
            && self.written.as_ref().is_some_and(|written| written.connection != link.connection_number());
        if self.waiting.is_empty() && !is_uncertain && !(is_old && values.are_waiting) {
            return Ok(());
        }
        if is_old || is_uncertain {
            self.note_all();
        }
        let options = &self.shared.options;
        let key = layout::definitions_key(self.shared.prefix());
        let mut names = HashSet::new();
        let definitions: Vec<&Definition> =
            self.waiting.iter().filter(|definition| names.insert(definition.name())).collect();
        let mut commands: Vec<Cmd> = Vec::new();
        for definition in &definitions {
            commands.push(command("HGET", &[&key, definition.name()]));
            commands.push(command("HSET", &[&key, definition.name(), &definition.to_json()]));
        }
        commands.push(command("EXPIRE", &[&key, &options.expire_key_time.to_string()]));
        let replies = link.exchange(options, &commands)?;
        let mut refusal = None;
        for (definition, pair) in definitions.iter().zip(replies.chunks(2)) {
            match pair {
                [Value::ServerError(error), _] | [_, Value::ServerError(error)] if concerns_key(error) => {
                    refusal = Some(describe(error));
                }
                [Value::ServerError(error), _] | [_, Value::ServerError(error)] => {
                    let error = refused(&options.address, error);
                    link.lose(&error);
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
        self.waiting.clear();
        self.written = Some(Written { at: Instant::now(), connection: link.connection_number() });
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

/// Warns if another process has declared the family in another way. That is no failure, because the other process
/// may run an old version of the program that is being replaced.
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
