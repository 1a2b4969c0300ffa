//! An HTTP client at the level of bytes: it sends only what a test tells it to send.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::PATIENCE;

/// Waits until the address is free. A forked process holds inherited sockets until it first runs.
pub fn wait_until_free(address: SocketAddr) {
    super::wait_until(&format!("{address} is free"), || TcpListener::bind(address).is_ok());
}

/// A client that sees every byte of its connection.
pub struct Client {
    pub socket: TcpStream,
    /// Bytes that were read and belong to the next answer.
    ahead: Vec<u8>,
}

#[derive(PartialEq, Eq)]
pub struct Answer {
    pub version: String,
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::from(TcpStream::connect(address).unwrap())
    }

    fn from(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { socket, ahead: Vec::new() }
    }

    /// Connects with a small receive buffer.
    pub fn connect_with_a_small_buffer(address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::from(TcpStream::from(socket))
    }

    pub fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).unwrap();
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.answer()
    }

    pub fn answer(&mut self) -> Answer {
        self.read_answer(true).unwrap()
    }

    /// Reads the answer to HEAD, which has no body whatever its headers say.
    pub fn answer_without_body(&mut self) -> Answer {
        self.read_answer(false).unwrap()
    }

    pub fn read_answer(&mut self, has_body: bool) -> io::Result<Answer> {
        let end = loop {
            if let Some(end) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            self.read_more()?;
        };
        let head = String::from_utf8(self.ahead.drain(..end + 4).collect()).unwrap();
        let (status_line, lines) = head.trim_end().split_once("\r\n").unwrap();
        let (version, status) = status_line.split_once(' ').unwrap();
        let headers: BTreeMap<String, String> = lines
            .split("\r\n")
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = match has_body {
            true => headers.get("content-length").map_or(0, |length| length.parse().unwrap()),
            false => 0,
        };
        while self.ahead.len() < length {
            self.read_more()?;
        }
        let body = self.ahead.drain(..length).collect();
        Ok(Answer { version: version.to_owned(), status: status[..3].parse().unwrap(), headers, body })
    }

    pub fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.socket.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.ahead.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }

    /// Waits until the exporter has closed the connection without sending more.
    pub fn wait_for_end(&mut self) {
        assert_eq!(self.ahead, b"");
        match self.read_more().map_err(|error| error.kind()) {
            Err(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {}
            other => panic!("expected the end of the connection, got {other:?}: {:?}", self.ahead),
        }
    }

    /// Returns whether nothing arrives for a while.
    pub fn hears_nothing(&mut self) -> bool {
        self.socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let read = self.read_more().map_err(|error| error.kind());
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        read == Err(io::ErrorKind::WouldBlock)
    }
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl std::fmt::Debug for Answer {
    /// Leaves out the body, which may be large.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, status, headers, body } = self;
        write!(formatter, "{version} {status} {headers:?}, {} bytes", body.len())
    }
}
