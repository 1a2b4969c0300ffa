//! The BackendAction thread's connection to the server, which is made again when it breaks.
//!
//! This file decides whether the store is "lost", and logs it once: one record when it is lost, and one when
//! it is back. A connection that breaks and can be made again at once is not logged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::connection::SMALL;
use super::options::RedisOptions;
use super::route::{Posted, Route};
use super::servers::Servers;
use super::socket::{SocketSlot, Terms};
use super::throttle::Throttle;
use crate::model::error::{Error, Result};
use crate::process::random::random_bits;

/// How long to wait before the first new attempt. Each further pause is twice as long, up to the longest. The
/// actual wait is a random time between half of the pause and all of it, because many processes lose a server
/// at the same moment and must not all come back at the same moment.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The connection, or the time at which to try again.
#[derive(Debug)]
pub(crate) struct Link {
    route: Option<Route>,
    servers: Arc<Servers>,
    slot: Arc<SocketSlot>,
    /// How many connections there have been, including the present ones.
    connection_number: u64,
    run_id: Option<Arc<str>>,
    lost: Option<Lost>,
    /// Whether a connection ever broke. What was sent on it may still arrive.
    has_failed: bool,
    /// How often something was sent on a connection.
    transmissions: u64,
    /// When the reply to a posted command must be here at the latest.
    posted_until: Option<Instant>,
    throttle: Throttle,
}

/// Identifies a run of the server, and the connection on which it answered.
#[derive(Debug, Clone)]
pub(crate) struct ServerRun {
    connection: u64,
    /// The id of the server's run, which changes when the server restarts. `None` if it is unknown.
    run_id: Option<Arc<str>>,
}

impl ServerRun {
    /// Returns whether both stand for the same connection.
    pub(crate) fn is_same_connection(&self, other: &Self) -> bool {
        self.connection == other.connection
    }

    /// Returns whether both certainly stand for one server that has not been restarted in between.
    pub(crate) fn is_same_run(&self, other: &Self) -> bool {
        self.is_same_connection(other) || (self.run_id.is_some() && self.run_id == other.run_id)
    }
}

#[derive(Debug)]
struct Lost {
    pause: Duration,
    retry_at: Instant,
}

impl Link {
    /// Makes a link. `first` is the result of connecting before the thread began, if that was tried.
    pub(crate) fn new(first: Option<Result<Route>>, servers: Arc<Servers>, slot: Arc<SocketSlot>) -> Self {
        let mut link = Self {
            route: None,
            servers,
            slot,
            connection_number: 0,
            run_id: None,
            lost: None,
            has_failed: false,
            transmissions: 0,
            posted_until: None,
            throttle: Throttle::default(),
        };
        match first {
            Some(Ok(route)) => {
                link.servers.learn(&route);
                link.keep(route);
            }
            Some(Err(error)) => link.lose(&error),
            None => {}
        }
        link
    }

    /// Returns when to try again, if the store is lost.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.lost.as_ref().map(|lost| lost.retry_at)
    }

    /// Returns the server of the current or the last connection.
    pub(crate) fn server(&self) -> ServerRun {
        ServerRun { connection: self.connection_number, run_id: self.run_id.clone() }
    }

    /// Closes the connection if the server has ended it, and returns whether it has. This does not count as a
    /// failure, because everything that was sent on the connection has been answered.
    pub(crate) fn has_ended(&mut self) -> bool {
        let has_ended = self.route.as_mut().is_some_and(Route::has_ended);
        if has_ended && !self.is_cluster() {
            self.route = None;
        }
        has_ended
    }

    /// Closes the connection if another server has become the master, and returns whether one has. Everything
    /// that was sent on the connection must have been answered.
    pub(crate) fn leave_deposed(&mut self, options: &RedisOptions) -> bool {
        let is_deposed = match &self.route {
            Some(route) => !self.servers.is_current(options, route),
            None => false,
        };
        if is_deposed {
            self.route = None;
        }
        is_deposed
    }

    /// Lets the next exchange find out whether another server has become the master.
    pub(crate) fn doubt(&self) {
        self.servers.doubt();
    }

    /// Returns whether a connection ever broke.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed || self.route.as_ref().is_some_and(Route::has_failed)
    }

    /// Returns how often something was sent, including attempts that failed.
    pub(crate) fn transmissions(&self) -> u64 {
        self.transmissions
    }

    /// Sends commands and reads their replies. If the connection turns out to be broken, it is made again
    /// once and the commands are sent a second time, so repeating them must be harmless. It is also made again
    /// if another server has become the master.
    pub(crate) fn exchange(
        &mut self,
        options: &RedisOptions,
        commands: &[Cmd],
        idle: &mut dyn FnMut(),
    ) -> Result<Vec<Value>> {
        self.leave_deposed(options);
        let had_connection = self.route.is_some();
        let result = match self.exchange_once(options, commands, idle) {
            Err(_) if had_connection => self.exchange_once(options, commands, idle),
            other => other,
        };
        if let Err(error) = &result {
            self.lose(error);
        }
        result
    }

    /// Sends a command to each server that has applied a batch on its present connection, without waiting for
    /// the replies, which the servers may delay for `patience`. The replies must be [collected](Self::collect)
    /// before anything else is done.
    pub(crate) fn post(&mut self, options: &RedisOptions, command: &Cmd, patience: Duration) {
        let Some(route) = &mut self.route else { return };
        let deadline = Instant::now() + options.socket_timeout;
        if route.post(command, deadline) {
            self.posted_until = Some(deadline + patience);
        } else {
            self.route = None;
        }
    }

    /// Waits for the replies to a posted command. There are none if nothing was posted, or connections broke.
    pub(crate) fn collect(&mut self, idle: &mut dyn FnMut()) -> Vec<Posted> {
        let (Some(deadline), Some(route)) = (self.posted_until.take(), &mut self.route) else {
            return Vec::new();
        };
        let replies = route.read_posted(Terms { deadline, memory: SMALL, idle });
        if replies.is_none() {
            self.route = None;
        }
        replies.unwrap_or_default()
    }

    /// Returns whether a reply is that of the server which holds a key.
    pub(crate) fn concerns(&self, posted: &Posted, key: &str) -> bool {
        self.route.as_ref().is_some_and(|route| route.concerns(posted, key))
    }

    /// Notes that the server of a key has applied a batch.
    pub(crate) fn note_applied(&mut self, key: &str) {
        if let Some(route) = &mut self.route {
            route.note_applied(key);
        }
    }

    /// Returns whether a server has applied a batch on its present connection.
    pub(crate) fn has_applied(&self) -> bool {
        self.route.as_ref().is_some_and(Route::has_applied)
    }

    /// Sends commands without keys to each server, and returns the replies by server. Without a connection, or if
    /// it breaks, there are none.
    pub(crate) fn exchange_everywhere(
        &mut self,
        options: &RedisOptions,
        commands: &[Cmd],
        idle: &mut dyn FnMut(),
    ) -> Vec<Vec<Value>> {
        let exchange =
            |route: &mut Route, terms: Terms<'_>| route.exchange_everywhere(options, commands, terms);
        self.on_route(options, idle, exchange).unwrap_or_default()
    }

    /// Notes that the server serves requests. If the store was lost, logs that it is back.
    pub(crate) fn serves(&mut self, options: &RedisOptions) {
        if self.lost.take().is_some() && self.throttle.admits() {
            log::info!("{} is back", options.address);
        }
    }

    /// Notes that the store is lost for `reason`, and drops the connection.
    pub(crate) fn lose(&mut self, reason: &Error) {
        self.drop_route();
        let pause = match &self.lost {
            Some(lost) => (lost.pause * 2).min(LONGEST_PAUSE),
            None => {
                // A server that refuses every other request must not fill the log.
                if self.throttle.admits() {
                    log::error!("the store is lost: {reason}; changes are kept, and sent when it is back");
                }
                FIRST_PAUSE
            }
        };
        self.lost = Some(Lost { pause, retry_at: Instant::now() + jittered(pause, random_bits()) });
    }

    fn exchange_once(
        &mut self,
        options: &RedisOptions,
        commands: &[Cmd],
        idle: &mut dyn FnMut(),
    ) -> Result<Vec<Value>> {
        if self.route.is_none() {
            let connect_by = Instant::now() + options.connect_timeout;
            let route = self.servers.open(options, connect_by, Some(&self.slot), idle)?;
            self.keep(route);
        }
        self.transmissions += 1;
        self.on_route(options, idle, |route, terms| route.exchange(options, commands, terms))
    }

    /// Exchanges something on the present route, if there is one, and drops the route if that fails.
    fn on_route<T: Default>(
        &mut self,
        options: &RedisOptions,
        idle: &mut dyn FnMut(),
        exchange: impl FnOnce(&mut Route, Terms<'_>) -> Result<T>,
    ) -> Result<T> {
        let Some(route) = &mut self.route else { return Ok(T::default()) };
        let deadline = Instant::now() + options.socket_timeout;
        let result = exchange(route, Terms { deadline, memory: SMALL, idle });
        self.connection_number += route.take_opened();
        if result.is_err() {
            self.route = None;
            self.has_failed = true;
        }
        result
    }

    fn keep(&mut self, mut route: Route) {
        route.register(&self.slot);
        self.connection_number += 1;
        self.posted_until = None;
        self.run_id = route.run_id().cloned();
        self.route = Some(route);
    }

    fn drop_route(&mut self) {
        self.has_failed = self.has_failed();
        self.route = None;
    }

    fn is_cluster(&self) -> bool {
        matches!(self.route, Some(Route::Cluster(_)))
    }
}

/// Returns a time from half of `pause` up to all of it, as `random` decides.
fn jittered(pause: Duration, random: u64) -> Duration {
    let half = pause / 2;
    half + half.mul_f64(random as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_over_the_second_half() {
        assert_eq!(jittered(LONGEST_PAUSE, 0), LONGEST_PAUSE / 2);
        assert_eq!(jittered(LONGEST_PAUSE, u64::MAX / 2), LONGEST_PAUSE * 3 / 4);
        assert_eq!(jittered(LONGEST_PAUSE, u64::MAX), LONGEST_PAUSE);
    }
}
