//! The BackendAction thread's line to the server: it breaks, and it comes back.
//!
//! Whether the store is "lost" is decided here, and said once: one record when it is lost, one when it
//! is back. A connection that breaks and can be made again at once is not worth a word.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::connection::{Connection, SocketSlot};
use super::options::RedisOptions;
use crate::model::error::{Error, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The connection, or the time at which to try again.
#[derive(Debug)]
pub(crate) struct Link {
    connection: Option<Connection>,
    slot: Arc<SocketSlot>,
    /// How many connections there were, this one included.
    connection_number: u64,
    lost: Option<Lost>,
    /// Whether a connection ever broke: what was sent on it may arrive late.
    has_failed: bool,
    /// How often something was sent over a connection.
    transmissions: u64,
}

#[derive(Debug)]
struct Lost {
    pause: Duration,
    retry_at: Instant,
}

impl Link {
    /// A link that has not connected yet, or has connected before its thread began.
    pub(crate) fn new(first: Option<Result<Connection>>, slot: Arc<SocketSlot>) -> Self {
        let mut link = Self {
            connection: None,
            slot,
            connection_number: 0,
            lost: None,
            has_failed: false,
            transmissions: 0,
        };
        match first {
            Some(Ok(connection)) => link.keep(connection),
            Some(Err(error)) => link.lose(&error),
            None => {}
        }
        link
    }

    /// When to try again, if the store is lost.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.lost.as_ref().map(|lost| lost.retry_at)
    }

    /// The number of the connection, or of the last one: another number may mean another server.
    pub(crate) fn connection_number(&self) -> u64 {
        self.connection_number
    }

    /// Whether the server has ended the connection; then it is closed here too. All that was sent on it has
    /// been answered, so this is no failure.
    pub(crate) fn has_ended(&mut self) -> bool {
        let has_ended = self.connection.as_ref().is_some_and(Connection::has_ended);
        if has_ended {
            self.connection = None;
        }
        has_ended
    }

    /// Whether a connection ever broke.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// How often something was sent so far, also in vain.
    pub(crate) fn transmissions(&self) -> u64 {
        self.transmissions
    }

    /// Sends commands and reads their replies. A connection that turns out to be broken is made anew,
    /// once; so the commands must be such that sending them again is harmless.
    pub(crate) fn exchange(&mut self, options: &RedisOptions, commands: &[Cmd]) -> Result<Vec<Value>> {
        let had_connection = self.connection.is_some();
        let result = self.exchange_once(options, commands);
        let result = match result {
            Err(_) if had_connection => self.exchange_once(options, commands),
            other => other,
        };
        if let Err(error) = &result {
            self.lose(error);
        }
        result
    }

    /// The server serves: if it was lost, it is back.
    pub(crate) fn serves(&mut self, options: &RedisOptions) {
        if self.lost.take().is_some() {
            log::info!("{} is back", options.address);
        }
    }

    /// The server is lost, for this reason.
    pub(crate) fn lose(&mut self, reason: &Error) {
        self.connection = None;
        let pause = match &self.lost {
            Some(lost) => (lost.pause * 2).min(LONGEST_PAUSE),
            None => {
                log::error!("the store is lost: {reason}; changes are kept, and sent when it is back");
                FIRST_PAUSE
            }
        };
        self.lost = Some(Lost { pause, retry_at: Instant::now() + pause });
    }

    fn exchange_once(&mut self, options: &RedisOptions, commands: &[Cmd]) -> Result<Vec<Value>> {
        if self.connection.is_none() {
            let connect_by = Instant::now() + options.connect_timeout;
            let connection = Connection::open(options, connect_by, Some(&self.slot))?;
            self.keep(connection);
        }
        let Some(connection) = &mut self.connection else { return Ok(Vec::new()) };
        self.transmissions += 1;
        let result = connection.exchange(commands, Instant::now() + options.socket_timeout);
        if result.is_err() {
            self.connection = None;
            self.has_failed = true;
        }
        result
    }

    fn keep(&mut self, mut connection: Connection) {
        connection.register(&self.slot);
        self.connection_number += 1;
        self.connection = Some(connection);
    }
}
