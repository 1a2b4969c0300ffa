//! Asks Redis Sentinel where the master of a service is.
//!
//! Any Sentinel may be asked. One that does not answer, or does not know the service, goes to the end of the
//! list, so that it does not delay the next question.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use redis::Value;

use super::connection::{Connection, SMALL, Target, command, refused};
use super::options::{Address, RedisOptions};
use super::reply::{shown, text};
use super::socket::{SocketSlot, Terms, share_of};
use crate::model::error::{Error, ErrorKind, Result};

/// The Sentinels of one service, and the connection to the one that answered last.
#[derive(Debug)]
pub(crate) struct Sentinels {
    service: String,
    /// In the order in which they are asked.
    known: VecDeque<Address>,
    /// To the first of them.
    connection: Option<Connection>,
    slot: Option<Arc<SocketSlot>>,
}

impl Sentinels {
    /// If there is a `slot`, a forked child finds the socket of the connection in it.
    pub(crate) fn new(service: &str, sentinels: &[Address], slot: Option<Arc<SocketSlot>>) -> Self {
        Self {
            service: service.to_owned(),
            known: sentinels.iter().cloned().collect(),
            connection: None,
            slot,
        }
    }

    /// Asks one after the other for the address of the master, until one names it. Each gets its share of the
    /// time.
    pub(crate) fn master(&mut self, options: &RedisOptions, deadline: Instant) -> Result<Address> {
        let mut reasons = Vec::new();
        let count = self.known.len();
        for left in (1..=count).rev() {
            match self.ask_first(options, share_of(deadline, left)) {
                Ok(master) => return Ok(master),
                Err(reason) => {
                    self.connection = None;
                    self.known.rotate_left(1);
                    reasons.push(reason.to_string());
                }
            }
        }
        let message = format!("no Sentinel names the master {:?}: {}", self.service, reasons.join("; "));
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// Asks the first Sentinel only. If it does not name the master, another will be asked the next time.
    pub(crate) fn glance(&mut self, options: &RedisOptions, deadline: Instant) -> Option<Address> {
        let master = self.ask_first(options, deadline).ok();
        if master.is_none() {
            self.connection = None;
            self.known.rotate_left(1);
        }
        master
    }

    fn ask_first(&mut self, options: &RedisOptions, deadline: Instant) -> Result<Address> {
        if self.connection.as_mut().is_some_and(Connection::has_ended) {
            self.connection = None;
        }
        let Some(sentinel) = self.known.front() else {
            return Err(Error::new(ErrorKind::Configuration, "there is no Sentinel"));
        };
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let target = Target::sentinel(sentinel, options);
                Connection::open(target, deadline, self.slot.as_ref(), &mut || {})?
            }
        };
        let question = command("SENTINEL", &["GET-MASTER-ADDR-BY-NAME", &self.service]);
        let terms = Terms { deadline, memory: SMALL, idle: &mut || {} };
        let reply = connection.exchange(&[question], terms)?.pop().unwrap_or_default();
        let master = address_in(&self.service, sentinel, reply)?;
        self.connection = Some(connection);
        Ok(master)
    }
}

/// Returns the address in the reply of a Sentinel.
fn address_in(service: &str, sentinel: &Address, reply: Value) -> Result<Address> {
    let unexpected = |reason: String| Error::new(ErrorKind::Unavailable, format!("{sentinel} {reason}"));
    match reply {
        Value::Nil => {
            Err(unexpected(format!("does not know {service:?}: is that the name of a master there?")))
        }
        Value::ServerError(error) => Err(refused(sentinel, &error)),
        Value::Array(parts) => {
            let mut parts = parts.into_iter().map(text);
            let host = parts.next().flatten();
            let port = parts.next().flatten().and_then(|port| port.parse().ok());
            match (host, port) {
                (Some(host), Some(port)) if !host.is_empty() => Ok(Address::Tcp { host, port }),
                _ => Err(unexpected("answered without an address".to_owned())),
            }
        }
        other => Err(unexpected(format!("answered {}", shown(&other)))),
    }
}

/// Fails if the server at the end of the connection is no master. A Sentinel may not know yet that the master
/// has changed, or the server may not know it.
pub(crate) fn check_role(connection: &mut Connection, deadline: Instant) -> Result<()> {
    let terms = Terms { deadline, memory: SMALL, idle: &mut || {} };
    let reply = connection.exchange(&[redis::cmd("ROLE")], terms)?.pop().unwrap_or_default();
    let address = connection.address();
    match reply {
        Value::ServerError(error) => Err(refused(address, &error)),
        Value::Array(parts) => match parts.into_iter().next().and_then(text).as_deref() {
            Some("master") => Ok(()),
            role => Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "{address} is no master, though a Sentinel says so, but a {}",
                    role.unwrap_or("server")
                ),
            )),
        },
        other => {
            let message = format!("{address} answered ROLE with {}", shown(&other));
            Err(Error::new(ErrorKind::Unavailable, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_an_address_says_what_is_wrong() {
        let sentinel = Address::Sentinel { host: "s".into(), port: 26379 };
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let found = |reply| address_in("mymaster", &sentinel, reply);
        let address = found(Value::Array(vec![bulk("10.0.0.1"), bulk("6379")])).unwrap();
        assert_eq!(address, Address::Tcp { host: "10.0.0.1".into(), port: 6379 });
        for (reply, expected) in [
            (Value::Nil, "Sentinel at s:26379 does not know \"mymaster\""),
            (Value::Array(vec![bulk(""), bulk("6379")]), "without an address"),
            (Value::Array(vec![bulk("h"), bulk("x")]), "without an address"),
            (Value::Okay, "answered"),
        ] {
            let error = found(reply).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
