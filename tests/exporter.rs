//! The HTTP exporter, spoken to byte by byte: what it answers, what it bears, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod support;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use log::Level;
use pytheus_backend_rs::{Backend, ErrorKind, Exporter, ExporterOptions, MetricType};
use support::*;

/// A client that sees every byte.
struct Client {
    socket: TcpStream,
    /// What was read and belongs to the next answer.
    ahead: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    version: String,
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { socket, ahead: Vec::new() }
    }

    fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).unwrap();
    }

    fn get(&mut self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.answer()
    }

    fn answer(&mut self) -> Answer {
        self.read_answer(true).unwrap()
    }

    /// The answer to HEAD, which has no body whatever its headers say.
    fn answer_without_body(&mut self) -> Answer {
        self.read_answer(false).unwrap()
    }

    fn read_answer(&mut self, has_body: bool) -> io::Result<Answer> {
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

    fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.socket.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.ahead.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }

    /// Waits until the exporter has closed the connection, without another word.
    fn wait_for_end(&mut self) {
        assert_eq!(self.ahead, b"");
        match self.read_more().map_err(|error| error.kind()) {
            Err(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {}
            other => panic!("expected the end of the connection, got {other:?}: {:?}", self.ahead),
        }
    }

    /// Whether nothing comes for a while.
    fn hears_nothing(&mut self) -> bool {
        self.socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let read = self.read_more().map_err(|error| error.kind());
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        read == Err(io::ErrorKind::WouldBlock)
    }
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

fn memory() -> Backend {
    let backend = Backend::open("memory:").unwrap();
    counter(&backend, "requests_total").inc(3.0).unwrap();
    backend
}

fn serve(backend: &Backend) -> Exporter {
    Exporter::start(backend, ExporterOptions::default()).unwrap()
}

fn serve_with(backend: &Backend, change: impl FnOnce(&mut ExporterOptions)) -> Exporter {
    let mut options = ExporterOptions::default();
    change(&mut options);
    Exporter::start(backend, options).unwrap()
}

fn get(exporter: &Exporter, path: &str) -> Answer {
    Client::connect(exporter.address()).get(path)
}

const REQUESTS: &str = "# HELP requests_total Some help.\n# TYPE requests_total counter\nrequests_total 3\n";

#[test]
fn metrics_are_served_by_get_and_head_with_the_same_headers() {
    let exporter = serve(&memory());
    let mut client = Client::connect(exporter.address());
    let got = client.get("/metrics");
    assert_eq!((got.version.as_str(), got.status), ("HTTP/1.1", 200));
    assert_eq!(got.text(), REQUESTS);
    assert_eq!(got.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    client.send("HEAD /metrics?x=y HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = client.answer_without_body();
    assert_eq!((head.status, head.header("content-length")), (200, REQUESTS.len().to_string().as_str()));
    for name in ["content-type", "content-length", "vary", "cache-control"] {
        assert_eq!(head.headers.get(name), got.headers.get(name), "{name}");
    }
    // Nothing of a body came, which would be taken for the next answer.
    assert_eq!(client.get("/-/healthy").text(), "ok\n");
}
