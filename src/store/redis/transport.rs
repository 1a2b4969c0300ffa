//! The bytes of a connection: plain, or under TLS.
//!
//! Both are read and written under the [`Terms`] of one exchange. What is read is metered, so that a server
//! cannot make this process take memory without bound.

use std::io::{self, Read, Write};

use rustls::client::ClientConnection;

use super::socket::{Socket, Terms};
use super::tls::{self, Tls};

/// A socket, and the TLS session on it if there is one.
pub(crate) struct Transport {
    pub(crate) socket: Socket,
    session: Option<Box<ClientConnection>>,
    /// The explanation of the last TLS failure, because the parser of replies hides the error.
    explanation: Option<String>,
}

impl Transport {
    /// Takes a connected socket. With `tls` a session with the named host begins, whose handshake is made under
    /// `terms`.
    pub(crate) fn new(
        mut socket: Socket,
        tls: Option<(&Tls, &str)>,
        terms: &mut Terms<'_>,
    ) -> io::Result<Self> {
        let session = match tls {
            Some((tls, host)) => {
                let mut session = tls.session(host)?;
                session.complete_io(&mut socket.under(terms))?;
                Some(Box::new(session))
            }
            None => None,
        };
        Ok(Self { socket, session, explanation: None })
    }

    /// Writes everything.
    pub(crate) fn write_all(&mut self, bytes: &[u8], terms: &mut Terms<'_>) -> io::Result<()> {
        let mut socket = self.socket.under(terms);
        match &mut self.session {
            Some(session) => {
                let mut stream = rustls::Stream::new(&mut **session, &mut socket);
                stream.write_all(bytes)?;
                stream.flush()
            }
            None => socket.write_all(bytes),
        }
    }

    /// Takes the explanation of the last TLS failure.
    pub(crate) fn take_explanation(&mut self) -> Option<String> {
        self.explanation.take()
    }

    /// Returns a reader of the connection under `terms`.
    pub(crate) fn reader<'exchange, 'idle>(
        &'exchange mut self,
        terms: &'exchange mut Terms<'idle>,
    ) -> Metered<'exchange, 'idle> {
        Metered { transport: self, terms, waits: true }
    }

    /// Returns a reader of what has arrived. Where nothing has, its error is [silence](is_silence).
    pub(crate) fn arrived<'exchange, 'idle>(
        &'exchange mut self,
        terms: &'exchange mut Terms<'idle>,
    ) -> Metered<'exchange, 'idle> {
        Metered { transport: self, terms, waits: false }
    }

    /// Returns whether the peer has closed the connection, or has sent something unasked. Does not wait.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.read_at_once(&mut [0]).map_or_else(|error| !is_silence(&error), |_| true)
    }

    /// Reads what has arrived, without waiting. Session tickets and other messages of TLS itself, which a server may
    /// send at any time, are not part of it.
    fn read_at_once(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.socket.read_at_once(buffer) };
        loop {
            match session.reader().read(buffer) {
                Err(error) if is_silence(&error) => {}
                result => return result,
            }
            if session.read_tls(&mut AtOnce(&self.socket))? == 0 {
                return Ok(0);
            }
            session.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

/// Returns whether an error means that nothing has arrived.
pub(crate) fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Reads what has arrived, without waiting.
struct AtOnce<'socket>(&'socket Socket);

impl Read for AtOnce<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at_once(buffer)
    }
}

/// Reads under the terms of an exchange, memory included.
pub(crate) struct Metered<'exchange, 'idle> {
    transport: &'exchange mut Transport,
    terms: &'exchange mut Terms<'idle>,
    /// Whether to wait for bytes if none have arrived.
    waits: bool,
}

impl Read for Metered<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = if self.waits {
            let mut socket = self.transport.socket.under(self.terms);
            match &mut self.transport.session {
                Some(session) => rustls::Stream::new(&mut **session, &mut socket).read(buffer),
                None => socket.read(buffer),
            }
        } else {
            self.transport.read_at_once(buffer)
        };
        let count = read.inspect_err(|error| self.transport.explanation = tls::explain(error))?;
        // Each value of a reply has at least one line, and takes memory beside its text.
        let lines = buffer[..count].iter().filter(|&&byte| byte == b'\n').count();
        let cost = count + lines * size_of::<redis::Value>();
        let left = self.terms.memory.checked_sub(cost);
        self.terms.memory = left.ok_or_else(|| io::Error::other("the reply is too large"))?;
        Ok(count)
    }
}
