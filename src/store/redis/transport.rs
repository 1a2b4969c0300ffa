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
        Metered { transport: self, terms }
    }

    /// Returns whether the peer has closed the connection, or has sent something unasked. Does not wait.
    /// Ignores session tickets and other messages of TLS itself, which a server may send at any time.
    pub(crate) fn has_ended(&mut self) -> bool {
        let Some(session) = &mut self.session else {
            return match self.socket.read_at_once(&mut [0]) {
                Ok(_) => true,
                Err(error) => !is_silence(&error),
            };
        };
        loop {
            match session.read_tls(&mut AtOnce(&self.socket)) {
                Ok(1..) => {}
                Ok(0) => return true,
                Err(error) => return !is_silence(&error),
            }
            match session.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
                _ => return true,
            }
        }
    }
}

fn is_silence(error: &io::Error) -> bool {
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
}

impl Read for Metered<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut socket = self.transport.socket.under(self.terms);
        let read = match &mut self.transport.session {
            Some(session) => rustls::Stream::new(&mut **session, &mut socket).read(buffer),
            None => socket.read(buffer),
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
