//! The HTTP exporter at the level of bytes: its answers, its limits and its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod support;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::time::Duration;

use log::Level;
use pytheus_backend_rs::{
    Backend, Definition, ErrorKind, Exporter, ExporterOptions, Guard, Lifetime, MetricType, NameRule,
};
use support::http::{Client, wait_until_free};
use support::*;

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

fn get(exporter: &Exporter, path: &str) -> http::Answer {
    Client::connect(exporter.address()).get(path)
}

/// Starts an exporter at a port that the system does not give to another socket after its end.
fn serve_at_a_kept_port(backend: &Backend) -> Exporter {
    loop {
        let options = ExporterOptions { port: free_port(), ..ExporterOptions::default() };
        match Exporter::start(backend, options) {
            Ok(exporter) => return exporter,
            Err(error) => assert!(error.message().contains("in use"), "{error}"),
        }
    }
}

const REQUESTS: &str = "# HELP requests_total Some help.\n# TYPE requests_total counter\nrequests_total 3\n";

#[test]
fn metrics_are_served_by_get_and_head_with_the_same_headers() {
    let exporter = serve(&memory());
    let mut client = Client::connect(exporter.address());
    let got = client.get("/metrics");
    assert_eq!((got.version.as_str(), got.status), ("HTTP/1.1", 200));
    assert_eq!(got.text(), REQUESTS);
    assert_eq!(client.get("/metrics/").text(), REQUESTS, "a scraper needs no redirect");
    assert_eq!(got.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    client.send("HEAD /metrics?x=y HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = client.answer_without_body();
    assert_eq!((head.status, head.header("content-length")), (200, REQUESTS.len().to_string().as_str()));
    for name in ["content-type", "content-length", "vary", "cache-control"] {
        assert_eq!(head.headers.get(name), got.headers.get(name), "{name}");
    }
    // A body would be read as the next answer.
    assert_eq!(client.get("/-/healthy").text(), "ok\n");
    assert_eq!(client.get("/-/ready").text(), "ready\n");
}

#[test]
fn a_socket_that_listens_already_is_served_and_clients_that_came_before_are_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut early = Client::connect(address);
    early.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
    let exporter = Exporter::start_on(&memory(), listener, ExporterOptions::default()).unwrap();
    assert_eq!(exporter.address(), address);
    assert_eq!(early.answer().text(), REQUESTS);
    exporter.stop();
    wait_until_free(address);
}

#[test]
fn a_unix_socket_is_served() {
    let file = shared_file::TestFile::new();
    let path = file.path.with_extension("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let exporter = Exporter::start_on(&memory(), listener, ExporterOptions::default()).unwrap();
    assert_eq!((exporter.address().to_string(), exporter.port()), ("0.0.0.0:0".to_owned(), 0));
    for _ in 0..3 {
        let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        client.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with(REQUESTS), "{answer}");
    }
    exporter.stop();
    let refused = std::os::unix::net::UnixStream::connect(&path).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_guard_decides_which_requests_are_answered() {
    let guard = Guard::new(|authorization| authorization == Some("Bearer secret"));
    let options = ExporterOptions { guard: Some(guard), ..ExporterOptions::default() };
    let exporter = Exporter::start(&memory(), options).unwrap();
    let mut client = Client::connect(exporter.address());
    for path in ["/metrics", "/", "/-/healthy", "/nowhere"] {
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let refused = client.answer();
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, "Basic"), "{path}");
    }
    client.send("GET /metrics HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer secret\r\n\r\n");
    assert_eq!(client.answer().text(), REQUESTS);
}

#[test]
fn a_slow_guard_keeps_nobody_waiting_whom_it_knows() {
    let (let_go, held) = crossbeam_channel::bounded::<()>(0);
    let guard = Guard::slow(
        |authorization| (authorization != Some("slow")).then_some(authorization == Some("known")),
        move |_| {
            // An error means that the test is over.
            let _ = held.recv();
            true
        },
    );
    let options = ExporterOptions { guard: Some(guard), ..ExporterOptions::default() };
    let exporter = Exporter::start(&memory(), options).unwrap();
    let ask = |who: &str| {
        let mut client = Client::connect(exporter.address());
        client.send(&format!("GET /metrics HTTP/1.1\r\nHost: test\r\nAuthorization: {who}\r\n\r\n"));
        client
    };
    // One question is being answered, and 8 wait. Which of the clients is refused is not said.
    let mut slow: Vec<Client> = (0..10).map(|_| ask("slow")).collect();
    assert_eq!(ask("known").answer().text(), REQUESTS);
    assert_eq!(ask("nobody").answer().status, 401);
    drop(let_go);
    let statuses: Vec<u16> = slow.iter_mut().map(|client| client.answer().status).collect();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!((1..=2).contains(&refused), "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 10 - refused, "{statuses:?}");
}

#[test]
fn the_landing_page_shows_the_version_and_links_to_each_path() {
    let exporter = serve(&memory());
    let page = get(&exporter, "/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let text = page.text();
    assert!(text.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"), "{text}");
    assert!(text.contains(concat!("Version ", env!("CARGO_PKG_VERSION"))), "{text}");
    let links: Vec<&str> =
        text.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(links, ["/metrics", "/-/healthy", "/-/ready"]);
    for link in links {
        assert_eq!(get(&exporter, link).status, 200, "{link}");
    }
    for foreign in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!text.contains(foreign), "the page loads {foreign} from elsewhere");
    }
}

#[test]
fn other_paths_are_not_found_and_other_methods_not_allowed() {
    let exporter = serve(&memory());
    for path in ["/metric", "/metrics//", "/favicon.ico", "/-/", "//metrics", "/../metrics"] {
        assert_eq!(get(&exporter, path).status, 404, "{path}");
    }
    for path in ["/", "/metrics", "/metrics/", "/-/healthy", "/-/ready"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
            let mut client = Client::connect(exporter.address());
            client.send(&format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            let answer = client.answer();
            assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method} {path}");
            assert!(answer.text().starts_with(method), "{}", answer.text());
        }
    }
}

#[test]
fn the_body_is_gzipped_for_a_client_that_asks() {
    let exporter = serve(&memory());
    let mut client = Client::connect(exporter.address());
    for (accepted, is_gzipped) in [
        ("gzip", true),
        ("deflate, gzip;q=0.5", true),
        ("identity;q=0.5, gzip;q=1.0", true),
        ("gzip;q=0", false),
        ("deflate, br", false),
        ("", false),
    ] {
        client.send(&format!("GET /metrics HTTP/1.1\r\nHost: test\r\nAccept-Encoding: {accepted}\r\n\r\n"));
        let answer = client.answer();
        assert_eq!(answer.header("content-encoding"), if is_gzipped { "gzip" } else { "" }, "{accepted}");
        assert!(answer.header("vary").to_ascii_lowercase().contains("accept-encoding"));
        let mut text = String::new();
        match is_gzipped {
            true => flate2::read::GzDecoder::new(&answer.body[..]).read_to_string(&mut text).unwrap(),
            false => answer.text().chars().map(|character| text.push(character)).count(),
        };
        assert_eq!(text, REQUESTS, "{accepted}");
    }
}

#[test]
fn an_old_client_is_answered_and_its_connection_ends() {
    let exporter = serve(&memory());
    let mut client = Client::connect(exporter.address());
    client.send("GET /metrics HTTP/1.0\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.version.as_str(), answer.status, answer.text()), ("HTTP/1.0", 200, REQUESTS));
    client.wait_for_end();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let exporter = serve(&memory());
    let mut client = Client::connect(exporter.address());
    let paths = ["/metrics", "/-/healthy", "/nowhere", "/", "/metrics"].repeat(20);
    let requests = paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    client.send(&requests.collect::<String>());
    for path in paths {
        let answer = client.answer();
        assert_eq!(answer.status, if path == "/nowhere" { 404 } else { 200 }, "{path}");
        assert_eq!(answer.text() == REQUESTS, path == "/metrics");
        assert_eq!(answer.text() == "ok\n", path == "/-/healthy");
    }
}

#[test]
fn a_client_that_shuts_down_its_sending_side_is_answered() {
    let exporter = serve(&memory());
    let mut client = Client::connect(exporter.address());
    client.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
    client.socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.answer().text(), REQUESTS);
    client.wait_for_end();
}

#[test]
fn headers_are_bounded_in_size_and_number() {
    let exporter = serve(&memory());
    let start = "GET /-/healthy HTTP/1.1\r\n";
    let ask = |headers: &str| {
        let mut client = Client::connect(exporter.address());
        client.send(&format!("{start}{headers}\r\n"));
        client.answer().status
    };
    assert_eq!(ask(&"a: b\r\n".repeat(100)), 200);
    assert_eq!(ask(&"a: b\r\n".repeat(101)), 431);
    let long = |size: usize| format!("a: {}\r\n", "b".repeat(size - start.len() - "a: \r\n\r\n".len()));
    assert_eq!(ask(&long(16 * 1024)), 200);
    assert_eq!(ask(&long(16 * 1024 + 1)), 431);
    // A header without an end closes the connection. An answer may come before that.
    let mut client = Client::connect(exporter.address());
    client.send(start);
    while client.socket.write_all(&[b'x'; 64 * 1024]).is_ok() {}
}

#[test]
fn bytes_that_are_not_http_are_refused() {
    let exporter = serve(&memory());
    for text in ["hello\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/3.0\r\n\r\n", "GET / HTTP/1.1\r\na b: c\r\n\r\n"]
    {
        let mut client = Client::connect(exporter.address());
        client.send(text);
        assert_eq!(client.answer().status, 400, "{text:?}");
        client.wait_for_end();
    }
    // The first bytes of a TLS client.
    let mut client = Client::connect(exporter.address());
    client.socket.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
    assert_eq!(client.answer().status, 400);
    assert_eq!(get(&exporter, "/metrics").status, 200);
}

#[test]
fn request_bodies_are_not_awaited() {
    let exporter = serve(&memory());
    // The body is announced and never sent.
    let mut client = Client::connect(exporter.address());
    client.send("GET /metrics HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\n");
    assert_eq!(client.answer().text(), REQUESTS);
    client.wait_for_end();
    // The chunked body has no end.
    let mut client = Client::connect(exporter.address());
    client.send("POST /metrics HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    while client.socket.write_all(format!("10000\r\n{}\r\n", "x".repeat(0x10000)).as_bytes()).is_ok() {}
    // A small body is skipped, and the connection stays open.
    let mut client = Client::connect(exporter.address());
    client.send("GET /metrics HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.answer().text(), REQUESTS);
    assert_eq!(client.get("/-/healthy").status, 200);
}

#[test]
fn a_client_that_sends_no_request_is_disconnected() {
    let exporter = serve_with(&memory(), |options| options.read_timeout = Duration::from_millis(300));
    let mut silent = Client::connect(exporter.address());
    let mut slow = Client::connect(exporter.address());
    let mut idle = ask_in_time(&exporter);
    // A byte now and then does not extend the deadline.
    for byte in "GET / HTTP/1.1\r\n".chars().chain(std::iter::repeat('x')) {
        if slow.socket.write_all(&[byte as u8]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    slow.wait_for_end();
    silent.wait_for_end();
    idle.wait_for_end();
    ask_in_time(&exporter);
}

/// Returns a client that sent its request in time. On a busy machine some are too slow.
fn ask_in_time(exporter: &Exporter) -> Client {
    loop {
        let mut client = Client::connect(exporter.address());
        let _ = client.socket.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: test\r\n\r\n");
        if client.read_answer(true).is_ok_and(|answer| answer.status == 200) {
            return client;
        }
    }
}

/// Opens a backend whose scrape is larger than the socket buffers.
fn large(size: usize) -> Backend {
    let backend = Backend::open("memory:").unwrap();
    let help = "x".repeat(size);
    let definition = Definition::new("big", &help, MetricType::Gauge, &[], &[]).unwrap();
    backend.declare(definition, &[], Lifetime::Backend).unwrap();
    backend
}

/// More bytes than the kernel buffers for a client with a small receive buffer (`tcp_wmem`).
const LARGE: usize = 8 << 20;

#[test]
fn a_large_answer_arrives_whole() {
    let exporter = serve(&large(LARGE));
    let answer = get(&exporter, "/metrics");
    assert!(answer.body.len() > LARGE);
    assert!(answer.text().ends_with("x\n# TYPE big gauge\n"));
}

#[test]
fn a_client_that_does_not_read_its_answer_is_disconnected() {
    let exporter = serve_with(&large(LARGE), |options| {
        options.write_timeout = Duration::from_millis(500);
        options.max_connections = 1;
    });
    let ask = || {
        let mut client = Client::connect_with_a_small_buffer(exporter.address());
        client.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
        client
    };
    let mut silent = ask();
    // Its end makes room for another client.
    assert_eq!(get(&exporter, "/-/healthy").text(), "ok\n");
    let error = silent.read_answer(true).unwrap_err().kind();
    assert!(matches!(error, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset), "{error}");
    // A client that reads a little now and then is disconnected, too.
    let mut dripping = ask();
    let mut taken = 0;
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = dripping.socket.read(&mut buffer) {
        taken += count;
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(taken < LARGE);
}

/// Serves with timeouts that no test lives to see, so that only room for others ends a connection.
fn serve_patiently(backend: &Backend, max_connections: usize) -> Exporter {
    serve_with(backend, |options| {
        options.max_connections = max_connections;
        options.read_timeout = Duration::from_secs(3600);
        options.write_timeout = Duration::from_secs(3600);
    })
}

#[test]
fn clients_that_ask_for_nothing_make_room_for_one_that_asks() {
    let exporter = serve_patiently(&memory(), 64);
    let mut silent: Vec<Client> = (0..100).map(|_| Client::connect(exporter.address())).collect();
    for _ in 0..3 {
        assert_eq!(get(&exporter, "/metrics").text(), REQUESTS);
    }
    silent[0].wait_for_end();
    assert_eq!(silent[99].get("/metrics").text(), REQUESTS, "the youngest keep their place");
}

#[test]
fn the_connection_that_has_waited_longest_makes_room() {
    let exporter = serve_patiently(&memory(), 2);
    let half = || {
        let mut client = Client::connect(exporter.address());
        client.send("GET /metrics HTTP/1.1\r\nHost: test\r\n");
        client
    };
    let mut first = half();
    let mut kept_open = Client::connect(exporter.address());
    assert_eq!(kept_open.get("/metrics").header("connection"), "");
    let mut third = half();
    first.wait_for_end();
    let mut fourth = Client::connect(exporter.address());
    assert_eq!(fourth.get("/metrics").text(), REQUESTS);
    kept_open.wait_for_end();
    third.send("\r\n");
    assert_eq!(third.answer().text(), REQUESTS);
}

#[test]
fn a_client_that_does_not_read_makes_room_for_one_that_does() {
    let exporter = serve_patiently(&large(LARGE), 1);
    let mut silent = Client::connect_with_a_small_buffer(exporter.address());
    silent.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(get(&exporter, "/-/healthy").text(), "ok\n");
    assert!(silent.read_answer(true).is_err());
}

#[test]
fn a_client_that_waits_for_its_answer_makes_no_room() {
    let mut server = Server::start();
    let backend = open(&server, "collect_timeout=60&socket_timeout=60");
    counter(&backend, "requests_total").inc(3.0).unwrap();
    backend.flush(PATIENCE).unwrap();
    let exporter = serve_patiently(&backend, 1);
    assert_eq!(get(&exporter, "/metrics").text(), REQUESTS);
    server.stop();
    let mut asking = Client::connect(exporter.address());
    asking.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut other = Client::connect(exporter.address());
    other.send("GET /-/healthy HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(other.hears_nothing());
    server.go_on();
    assert_eq!(asking.answer().text(), REQUESTS);
    assert_eq!(other.answer().text(), "ok\n");
    server.kill();
}

#[test]
fn clients_that_do_not_read_hold_no_more_than_a_few_answers() {
    let exporter = serve_patiently(&large(LARGE), 64);
    let mut silent = Vec::new();
    let mut ask = || {
        let mut client = Client::connect_with_a_small_buffer(exporter.address());
        client.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
        // Each gets an answer of its own, or an error, and reads the beginning.
        let _ = client.socket.read(&mut [0; 16]);
        silent.push(client);
    };
    // Together more than 64 MiB; by then the first has had time to read.
    (0..9).for_each(|_| ask());
    std::thread::sleep(Duration::from_millis(1100));
    ask();
    assert!(silent[0].read_answer(true).is_err(), "the first still holds its answer");
    assert!(get(&exporter, "/metrics").body.len() > LARGE);
}

#[test]
fn only_allowed_hosts_are_answered() {
    let exporter = serve_with(&memory(), |options| {
        options.allowed_hosts = ["metrics.example", "::1"].map(str::to_owned).to_vec();
    });
    let status = |head: &str| {
        let mut client = Client::connect(exporter.address());
        client.send(&format!("{head}\r\n\r\n"));
        client.answer().status
    };
    for host in ["metrics.example", "METRICS.example:9464", "[::1]:80"] {
        assert_eq!(status(&format!("GET /metrics HTTP/1.1\r\nHost: {host}")), 200, "{host}");
    }
    assert_eq!(status("GET http://metrics.example/metrics HTTP/1.1\r\nHost: other"), 200);
    for host in ["evil.example", "metrics.example.evil.example", "127.0.0.1", "", "a b"] {
        assert_eq!(status(&format!("GET /metrics HTTP/1.1\r\nHost: {host}")), 421, "{host}");
    }
    for head in ["GET /metrics HTTP/1.0", "GET / HTTP/1.1\r\nHost: evil.example"] {
        assert_eq!(status(head), 421, "{head}");
    }
}

#[test]
fn many_clients_at_once_are_all_answered() {
    let exporter = serve_with(&memory(), |options| options.max_connections = 8);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(get(&exporter, "/metrics").text(), REQUESTS);
                }
            });
        }
    });
}

#[test]
fn the_address_is_loopback_unless_told_otherwise_and_the_port_is_free() {
    let (first, second) = (serve(&memory()), serve(&memory()));
    assert!(first.address().ip().is_loopback() && first.address().is_ipv4());
    assert_ne!(first.port(), second.port());
    for address in ["::1", "[::1]", "localhost", "0.0.0.0", "::"] {
        let exporter = serve_with(&memory(), |options| options.address = address.to_owned());
        assert_ne!(exporter.port(), 0);
        assert_eq!(exporter.address().is_ipv6(), address.contains(':'), "{address}");
        let loopback = match address.contains("::1") {
            true => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], exporter.port())),
            false => SocketAddr::from(([127, 0, 0, 1], exporter.port())),
        };
        assert_eq!(Client::connect(loopback).get("/metrics").text(), REQUESTS, "{address}");
    }
}

#[test]
fn an_address_that_cannot_be_bound_is_named_with_the_reason() {
    let backend = memory();
    let start = |change: &dyn Fn(&mut ExporterOptions)| {
        let mut options = ExporterOptions::default();
        change(&mut options);
        Exporter::start(&backend, options).unwrap_err()
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = start(&|options| options.port = port);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains(&format!("127.0.0.1:{port}")), "{error}");
    assert!(error.message().contains("in use"), "{error}");
    // An address that is reserved for documentation.
    let error = start(&|options| options.address = "192.0.2.1".to_owned());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("192.0.2.1:0: Cannot assign"), "{error}");
    for address in ["", "example.org", "127.0.0.1:80", "1.2.3", "::1]"] {
        let error = start(&|options| options.address = address.to_owned());
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(&format!("{address:?}")), "{error}");
    }
    let too_few = start(&|options| options.max_connections = 0);
    assert!(too_few.message().starts_with("max_connections is 0"), "{too_few}");
    for timeout in [Duration::ZERO, Duration::MAX] {
        let error = start(&|options| options.read_timeout = timeout);
        assert!(error.message().starts_with("read_timeout is"), "{error}");
        let error = start(&|options| options.write_timeout = timeout);
        assert!(error.message().starts_with("write_timeout is"), "{error}");
    }
}

#[test]
fn the_exporter_reports_its_address() {
    remember_log();
    let exporter = serve(&memory());
    let line = format!("serving metrics on http://127.0.0.1:{}/metrics", exporter.port());
    assert_eq!(log_records(Level::Info, &[&line]), [line]);
}

#[test]
fn stopping_frees_the_port_and_ends_idle_connections() {
    let exporter = serve_at_a_kept_port(&memory());
    let address = exporter.address();
    let (mut fresh, mut idle) = (Client::connect(address), Client::connect(address));
    assert_eq!(idle.get("/metrics").status, 200);
    exporter.stop();
    fresh.wait_for_end();
    idle.wait_for_end();
    wait_until_free(address);
    exporter.stop();
    drop(exporter);
}

#[test]
fn stopping_disconnects_a_client_that_keeps_its_connection_open() {
    let exporter = serve_at_a_kept_port(&large(LARGE));
    let mut reading = Client::connect_with_a_small_buffer(exporter.address());
    reading.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
    reading.read_more().unwrap();
    let mut half = Client::connect(exporter.address());
    half.send("GET /metrics HTTP/1.1\r\nHost:");
    let address = exporter.address();
    drop(exporter);
    half.wait_for_end();
    assert!(reading.read_answer(true).is_err());
    wait_until_free(address);
}

#[test]
fn a_closed_backend_is_503_in_every_store() {
    let (server, file) = (Server::start(), shared_file::TestFile::new());
    for url in ["memory:", &server.url(""), &file.url("")] {
        let backend = Backend::open(url).unwrap();
        counter(&backend, "requests_total").inc(3.0).unwrap();
        let exporter = serve(&backend);
        assert_eq!(get(&exporter, "/metrics").text(), REQUESTS, "{url}");
        backend.close().unwrap();
        drop(backend);
        let answer = get(&exporter, "/metrics");
        assert_eq!((answer.status, answer.text()), (503, "the backend is closed\n"), "{url}");
        assert_eq!(get(&exporter, "/-/ready").text(), answer.text(), "{url}");
        assert_eq!(get(&exporter, "/-/healthy").status, 200);
    }
}

#[test]
fn a_lost_server_is_503_with_the_reason_until_it_is_back() {
    remember_log();
    let mut server = Server::start_with(&["--requirepass", "se:cret"]);
    let port = server.port();
    let url = format!("redis://:se%3Acret@127.0.0.1:{port}/?flush_interval_ms=1&connect_timeout=2");
    let backend = Backend::open(&url).unwrap();
    let requests = counter(&backend, "requests_total");
    requests.inc(3.0).unwrap();
    let exporter = serve(&backend);
    assert_eq!(get(&exporter, "/metrics").text(), REQUESTS);
    server.kill();
    for _ in 0..3 {
        let answer = get(&exporter, "/metrics");
        assert_eq!((answer.status, answer.header("content-type")), (503, "text/plain; charset=utf-8"));
        assert!(answer.text().contains(&format!("127.0.0.1:{port}")), "{}", answer.text());
        assert!(!answer.text().contains("cret"), "{}", answer.text());
        let ready = get(&exporter, "/-/ready");
        assert_eq!((ready.status, ready.text()), (503, answer.text()));
        assert_eq!(get(&exporter, "/-/healthy").text(), "ok\n");
    }
    let warnings = log_records(Level::Warn, &["a scrape failed", &format!(":{port}")]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    server.run();
    wait_until("scrapes work again", || get(&exporter, "/-/ready").status == 200);
    requests.inc(1.0).unwrap();
    assert!(get(&exporter, "/metrics").text().contains("\nrequests_total "));
}

#[test]
fn a_stalled_server_delays_no_other_path() {
    let server = Server::start();
    let backend = open(&server, "flush_interval_ms=1");
    counter(&backend, "requests_total").inc(3.0).unwrap();
    flush(&backend);
    let exporter = serve(&backend);
    assert_eq!(get(&exporter, "/metrics").text(), REQUESTS);
    server.stop();
    let scrapers: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::connect(exporter.address());
            client.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
            client
        })
        .collect();
    assert_eq!(get(&exporter, "/-/healthy").text(), "ok\n");
    assert_eq!(get(&exporter, "/").status, 200);
    server.go_on();
    for mut scraper in scrapers {
        assert_eq!(scraper.answer().text(), REQUESTS);
    }
}

#[test]
fn concurrent_requests_share_one_scrape() {
    let server = Server::start();
    let proxy = proxy::Proxy::start(server.port());
    let backend =
        Backend::open(&proxy.url("flush_interval_ms=1&collect_timeout=600&socket_timeout=600")).unwrap();
    counter(&backend, "requests_total").inc(3.0).unwrap();
    flush(&backend);
    let exporter = serve_with(&backend, |options| options.max_connections = 200);
    assert_eq!(get(&exporter, "/metrics").text(), REQUESTS);
    let before = server.calls_of("hgetall") + server.calls_of("get") + server.calls_of("mget");
    let one = before;
    assert!(one > 0);
    let held = proxy.held_back();
    proxy.hold(proxy::Direction::Reply);
    let ask = || {
        let mut client = Client::connect(exporter.address());
        client.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
        client
    };
    let first = ask();
    wait_until("the first scrape is under way", || proxy.held_back() > held);
    let others: Vec<Client> = (0..100).map(|_| ask()).collect();
    assert_eq!(get(&exporter, "/-/healthy").text(), "ok\n");
    proxy.release();
    for mut client in others.into_iter().chain([first]) {
        assert_eq!(client.answer().text(), REQUESTS);
    }
    let scrapes =
        (server.calls_of("hgetall") + server.calls_of("get") + server.calls_of("mget") - before) / one;
    assert!(scrapes <= 10, "{scrapes} scrapes for 101 requests");
}

#[test]
fn stopping_does_not_wait_for_a_stalled_server() {
    let server = Server::start();
    let backend =
        open(&server, "flush_interval_ms=1&collect_timeout=600&socket_timeout=600&shutdown_timeout=0.1");
    counter(&backend, "requests_total").inc(3.0).unwrap();
    flush(&backend);
    let exporter = serve_at_a_kept_port(&backend);
    assert_eq!(get(&exporter, "/metrics").status, 200);
    server.stop();
    let mut client = Client::connect(exporter.address());
    client.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut second = Client::connect(exporter.address());
    assert_eq!(second.get("/-/healthy").status, 200);
    let address = exporter.address();
    drop(exporter);
    assert!(client.read_answer(true).is_err());
    wait_until_free(address);
    server.go_on();
}

#[test]
fn the_accept_header_selects_the_format() {
    let exporter = serve_with(&memory(), |options| options.name_prefix = Some("shop".to_owned()));
    let mut client = Client::connect(exporter.address());
    let text = REQUESTS.replace("requests", "shop_requests");
    let end = "\n# EOF\n";
    for (accept, content_type, expected) in [
        ("", "text/plain; version=0.0.4; charset=utf-8", &*text),
        ("Accept: text/html, */*;q=0.8\r\n", "text/plain; version=0.0.4; charset=utf-8", &text),
        (
            "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2\r\n",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            end,
        ),
        // Several headers form one list.
        (
            "Accept: text/plain;q=0.2\r\nAccept: application/openmetrics-text;version=1.0.0\r\n",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            end,
        ),
    ] {
        client.send(&format!("GET /metrics HTTP/1.1\r\nHost: test\r\n{accept}\r\n"));
        let answer = client.answer();
        assert_eq!(answer.header("content-type"), content_type, "{accept}");
        assert!(answer.text().contains("\nshop_requests_total 3\n"), "{}", answer.text());
        assert!(answer.text().ends_with(expected), "{accept}: {}", answer.text());
        assert!(answer.header("vary").contains("accept,"), "{}", answer.header("vary"));
    }
}

#[test]
fn the_query_selects_families() {
    let backend = memory();
    gauge(&backend, "level").set(1.5).unwrap();
    let odd = Definition::with_names(NameRule::Utf8, "größe", "", MetricType::Gauge, &[], &[]).unwrap();
    backend.declare(odd, &[], Lifetime::Backend).unwrap().metric(&[]).unwrap();
    let exporter = serve_with(&backend, |options| options.name_prefix = Some("shop".to_owned()));
    let mut client = Client::connect(exporter.address());
    let mut names = |target: &str| {
        let answer = client.get(target);
        assert_eq!(answer.status, 200, "{target}");
        let text = answer.text();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = ["shop_requests_total", "shop_level", "shop_gr__e"];
    for (query, expected) in [
        ("", &all[..]),
        ("?", &all),
        ("?other=1&name=shop_level", &all),
        ("?name[]=shop_level", &all[1..2]),
        ("?a=b&name%5B%5D=shop_level&name[]=shop_requests_total", &all[..2]),
        ("?name[]=shop_gr%C3%B6%C3%9Fe", &all[2..]),
        ("?name[]=shop_größe", &all[2..]),
        ("?name[]=shop_gr__e", &all[2..]),
        ("?name[]=level", &[]),
        ("?name[]=%FF%&name[]=%zz", &[]),
    ] {
        assert_eq!(names(&format!("/metrics{query}")), expected, "{query}");
        assert_eq!(names(&format!("/metrics/{query}")), expected, "{query}");
    }
    client
        .send("GET /metrics?name[]=x HTTP/1.1\r\nHost: test\r\nAccept: application/openmetrics-text\r\n\r\n");
    assert_eq!(client.answer().text(), "# EOF\n");
}

#[test]
fn requests_for_different_families_get_their_own() {
    let server = Server::start();
    let backend = open(&server, "flush_interval_ms=1&collect_timeout=600&socket_timeout=600");
    counter(&backend, "requests_total").inc(3.0).unwrap();
    gauge(&backend, "level").set(1.0).unwrap();
    flush(&backend);
    let exporter = serve(&backend);
    let whole = get(&exporter, "/metrics");
    server.stop();
    let ask = |query: &str| {
        let mut client = Client::connect(exporter.address());
        client.send(&format!("GET /metrics{query} HTTP/1.1\r\nHost: test\r\n\r\n"));
        client
    };
    let clients = ["", "?name[]=level", "?name[]=requests_total", "?name[]=level"].map(ask);
    assert_eq!(get(&exporter, "/-/healthy").text(), "ok\n");
    server.go_on();
    let level = "# HELP level Some help.\n# TYPE level gauge\nlevel 1\n";
    for (mut client, expected) in clients.into_iter().zip([whole.text(), level, REQUESTS, level]) {
        assert_eq!(client.answer().text(), expected);
    }
}
