//! Writers of earlier versions count beside new ones on one server. A process of 0.1.0 calls the script of that
//! version, and sends a batch again unchanged until it is answered. A process of 0.0.9 adds with `INCRBYFLOAT` and
//! `HINCRBYFLOAT`, and forgets what was not answered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pytheus_backend_rs::Backend;
use redis::{Connection, RedisResult, Value};

use support::process::Random;
use support::proxy::{Direction, Proxy};
use support::writers::*;
use support::*;

/// The script of 0.1.0, which knows no base.
const OLD_SCRIPT: &str = include_str!("support/batch_0_1_0.lua");

/// How long an old process waits for an answer.
const OLD_TIMEOUT: Duration = Duration::from_millis(300);

/// The options of new writers, which wait as long.
const IMPATIENT: &str = "flush_interval_ms=1&max_flush_interval_ms=1&socket_timeout=0.3&connect_timeout=0.5\
                         &shutdown_timeout=20";

/// What a process of 0.0.9 adds each time. All other writers add whole numbers, so the fraction of a sum is its share.
const SHARE: f64 = 1.0 / 4096.0;

fn connect(proxy: &Proxy) -> RedisResult<Connection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{}/", proxy.port()))?;
    let connection = client.get_connection_with_timeout(OLD_TIMEOUT)?;
    connection.set_read_timeout(Some(OLD_TIMEOUT))?;
    connection.set_write_timeout(Some(OLD_TIMEOUT))?;
    Ok(connection)
}

/// A family of a process of 0.1.0: its key and type, its epoch as far as known, and the batch that is not answered.
struct OldFamily {
    key: &'static str,
    kind: &'static str,
    epoch: String,
    batch: Option<(u64, Vec<[String; 3]>)>,
}

impl OldFamily {
    fn new(key: &'static str, kind: &'static str) -> Self {
        Self { key, kind, epoch: String::new(), batch: None }
    }

    fn call(&self, sha: &str, writer: &str) -> Option<redis::Cmd> {
        let (number, operations) = self.batch.as_ref()?;
        let mut call = redis::cmd("EVALSHA");
        call.arg(sha).arg(2).arg(self.key).arg(format!("{{{}}}:writers", self.key)).arg(writer).arg(number);
        call.arg(3600).arg(self.kind).arg(1_700_000_000).arg(86_400).arg(128).arg(&self.epoch);
        for operation in operations {
            call.arg(operation);
        }
        Some(call)
    }

    fn take_reply(&mut self, reply: &Value) {
        match reply {
            Value::Array(parts) if matches!(parts[..], [Value::Int(0 | 1)]) => self.batch = None,
            Value::Array(parts) => match &parts[..] {
                [Value::Int(2), Value::BulkString(epoch), ..] if self.epoch.is_empty() => {
                    self.epoch = String::from_utf8(epoch.clone()).unwrap();
                }
                _ => panic!("{}: {parts:?} in epoch {:?}", self.key, self.epoch),
            },
            other => panic!("{}: {other:?}", self.key),
        }
    }
}

/// A process of 0.1.0 that counts in the families of a [`Writer`], once with each batch.
struct Process010<'proxy> {
    writer: String,
    proxy: &'proxy Proxy,
    connection: Option<Connection>,
    families: [OldFamily; 5],
    number: u64,
}

impl<'proxy> Process010<'proxy> {
    fn new(number: usize, proxy: &'proxy Proxy) -> Self {
        let families = [
            OldFamily::new("plain_total", "string"),
            OldFamily::new("requests_total", "hash"),
            OldFamily::new("time", "hash"),
            OldFamily::new("last", "hash"),
            OldFamily::new("sum", "string"),
        ];
        Self { writer: format!("old-{number}"), proxy, connection: None, families, number: 0 }
    }

    fn count(&mut self, count: u64) {
        let add = |field: &str, amount: &str| ["add".to_owned(), field.to_owned(), amount.to_owned()];
        let last =
            ["set".to_owned(), format!(r#"{{"writer":"{}"}}"#, self.writer), format!("{:e}", count as f64)];
        let operations = [
            vec![add("{}", "1e0")],
            vec![add(r#"{"path":"0"}"#, "1e0")],
            vec![add("{}#sum", "2.5e-1"), add("{}#le=0.5", "1e0")],
            vec![last],
            vec![add("{}", "1e0")],
        ];
        for (family, operations) in self.families.iter_mut().zip(operations) {
            self.number += 1;
            family.batch = Some((self.number, operations));
        }
        wait_until("the old process sends its batches", || {
            if self.exchange().is_err() {
                self.connection = None;
            }
            self.families.iter().all(|family| family.batch.is_none())
        });
    }

    /// Sends all batches that are not answered, and takes the answers.
    fn exchange(&mut self) -> RedisResult<()> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(self.proxy)?,
        };
        let mut pipeline = redis::pipe();
        // A new connection may lead to a server that has lost its scripts.
        pipeline.cmd("SCRIPT").arg("LOAD").arg(OLD_SCRIPT);
        let script = redis::Script::new(OLD_SCRIPT);
        for family in &self.families {
            if let Some(call) = family.call(script.get_hash(), &self.writer) {
                pipeline.add_command(call);
            }
        }
        let replies: Vec<Value> = pipeline.query(&mut connection)?;
        let waiting = self.families.iter_mut().filter(|family| family.batch.is_some());
        waiting.zip(&replies[1..]).for_each(|(family, reply)| family.take_reply(reply));
        self.connection = Some(connection);
        Ok(())
    }
}

/// A process of 0.0.9, which counts in some families of a [`Writer`].
struct Process009<'proxy> {
    proxy: &'proxy Proxy,
    connection: Option<Connection>,
    /// How often the server has confirmed an addition, and how often it may have applied one without an answer.
    confirmed: u64,
    unknown: u64,
}

impl<'proxy> Process009<'proxy> {
    fn new(proxy: &'proxy Proxy) -> Self {
        Self { proxy, connection: None, confirmed: 0, unknown: 0 }
    }

    fn count(&mut self) {
        let count = self.confirmed + self.unknown + 1;
        let mut pipeline = redis::pipe();
        for (key, command) in [
            ("plain_total", redis::Cmd::incr("plain_total", SHARE)),
            ("requests_total", redis::Cmd::hincr("requests_total", r#"{"path":"0"}"#, SHARE)),
            ("last", redis::Cmd::hset("last", r#"{"writer":"0.0.9"}"#, count)),
        ] {
            pipeline.add_command(command).ignore().expire(key, 3600).ignore();
        }
        let connection = match self.connection.take().map_or_else(|| connect(self.proxy), Ok) {
            Ok(connection) => self.connection.insert(connection),
            // Nothing was sent. 0.0.9 forgets it.
            Err(_) => return,
        };
        match pipeline.query::<()>(connection) {
            Ok(()) => self.confirmed += 1,
            Err(_) => {
                self.connection = None;
                self.unknown += 1;
            }
        }
    }

    /// Asserts that a sum holds all additions that were confirmed, and none that was not sent. Returns the sum without
    /// them.
    fn without_share(&self, what: &str, sum: f64) -> f64 {
        let share = (sum - sum.floor()) / SHARE;
        let (least, most) = (self.confirmed as f64, (self.confirmed + self.unknown) as f64);
        assert!((least..=most).contains(&share), "{what}: {share} of {least} to {most}");
        sum.floor()
    }
}

/// Reads a family as a scrape of 0.0.9 does: the value, or the values by the JSON of the labels.
fn read_as_0_0_9(server: &Server, key: &str, has_labels: bool) -> BTreeMap<String, f64> {
    server.run_command::<()>(&["EXPIRE", key, "3600"]);
    let number = |text: String| text.parse::<f64>().unwrap();
    if has_labels {
        let fields: BTreeMap<String, String> = server.run_command(&["HGETALL", key]);
        // It fails if one field is no JSON.
        for field in fields.keys() {
            serde_json::from_str::<BTreeMap<String, String>>(field).unwrap();
        }
        fields.into_iter().map(|(field, value)| (field, number(value))).collect()
    } else {
        let value: Option<String> = server.run_command(&["GET", key]);
        BTreeMap::from([(String::new(), value.map_or(0.0, number))])
    }
}

/// Scrapes, also while connections break.
fn scraped(backend: &Backend, series: &str) -> f64 {
    let mut text = String::new();
    wait_until("a scrape succeeds", || backend.collect_text().map(|found| text = found).is_ok());
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().unwrap())
}

/// What the old processes have counted, for the thread that looks on.
#[derive(Default)]
struct Progress {
    counted: [AtomicU64; 2],
    confirmed: AtomicU64,
    ends: AtomicBool,
}

impl Progress {
    fn old(&self) -> u64 {
        self.counted.iter().map(|counted| counted.load(Ordering::Relaxed)).sum()
    }
}

/// Lets everything count, until each writer has sent something more.
fn go_on(writers: &[Writer], progress: &Progress) {
    let sent = |writer: &Writer| writer.backend.statistics().batches_sent;
    let counts: Vec<u64> = writers.iter().map(sent).collect();
    let (old, confirmed) = (progress.old(), progress.confirmed.load(Ordering::Relaxed));
    wait_until("all writers send", || {
        writers.iter().zip(&counts).all(|(writer, before)| sent(writer) > before + 5)
            && progress.old() > old + 5
            && progress.confirmed.load(Ordering::Relaxed) > confirmed + 2
    });
}

/// Breaks a connection in one of the ways in which connections break, and waits until that has happened.
fn disturb(proxy: &Proxy, random: &mut Random) {
    let direction = match random.below(4) {
        0 => Direction::Request,
        1 => Direction::Reply,
        2 => {
            let held_back = proxy.held_back();
            proxy.swallow_reply();
            wait_until("a reply is lost", || proxy.held_back() > held_back);
            return;
        }
        _ => {
            proxy.end_connections();
            return;
        }
    };
    let cuts = proxy.cuts_done();
    proxy.cut_after(direction, random.below(3_000) as usize);
    wait_until("a connection is cut", || proxy.cuts_done() > cuts);
}

#[test]
fn all_versions_count_exactly_through_lost_replies_and_a_restart() {
    for _ in 0..rounds() {
        let mut server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let proxy = Proxy::start(server.port());
        // The process of 0.0.9 comes first, so the others find keys without writers.
        let mut first = Process009::new(&proxy);
        wait_until("it counts", || {
            first.count();
            first.confirmed > 2
        });
        for part in ["sum", "0.5", "+Inf", "count"] {
            server.run_command::<()>(&["INCRBYFLOAT", &format!("time:{part}"), "1"]);
        }
        let progress = Progress::default();
        let old = [Process010::new(0, &proxy), Process010::new(1, &proxy)];
        let mut writers: Vec<Writer> =
            (0..2).map(|number| Writer::start(&proxy.url(IMPATIENT), number)).collect();
        let reader = Backend::open(&proxy.url(&format!("{IMPATIENT}&read_only=true"))).unwrap();
        let process_0_0_9 = std::thread::scope(|scope| {
            for (mut process, counted) in old.into_iter().zip(&progress.counted) {
                let ends = &progress.ends;
                scope.spawn(move || {
                    while !ends.load(Ordering::Relaxed) {
                        process.count(counted.load(Ordering::Relaxed) + 1);
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let progress = &progress;
            let thread = scope.spawn(move || {
                while !progress.ends.load(Ordering::Relaxed) && first.confirmed + first.unknown < 4_000 {
                    first.count();
                    progress.confirmed.store(first.confirmed, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                }
                first
            });
            let mut random = Random::new();
            for fault in 0..12 {
                go_on(&writers, progress);
                if fault == 6 {
                    server.kill();
                    server.run();
                } else {
                    disturb(&proxy, &mut random);
                }
                // A new process shows what the old ones had counted before.
                let (old, share) = (progress.old(), progress.confirmed.load(Ordering::Relaxed));
                assert!(scraped(&reader, "plain_total") >= old as f64 + share as f64 * SHARE);
            }
            go_on(&writers, progress);
            progress.ends.store(true, Ordering::Relaxed);
            thread.join().unwrap()
        });
        let mut difference = missing(&mut writers, &server);
        let old = progress.old() as f64;
        assert_eq!((-difference.sum, -difference.observations, -difference.time), (old, old, old * 0.25));
        let new: f64 = writers.iter().map(|writer| writer.counted() as f64).sum();
        for (what, missing) in [("plain_total", difference.plain), ("requests_total", difference.by_path)] {
            assert_eq!(process_0_0_9.without_share(what, new - missing), new + old, "{what}");
        }
        difference =
            Difference { plain: 0.0, by_path: 0.0, observations: 0.0, time: 0.0, sum: 0.0, ..difference };
        assert_eq!(difference, NONE);
        assert_eq!((losses(&writers), replayed(&writers)), (0, 0));
        assert!(
            writers.iter().any(|writer| writer.backend.statistics().batches_resent > 0),
            "no reply was lost"
        );

        // Each shows what the others have counted.
        let scraping = &writers[0].backend;
        for (key, has_labels) in
            [("plain_total", false), ("requests_total", true), ("last", true), ("sum", false)]
        {
            for (labels, value) in read_as_0_0_9(&server, key, has_labels) {
                let labels = labels.replace(r#"{""#, "{").replace(r#"":"#, "=");
                assert_eq!(scraped(scraping, &format!("{key}{labels}")), value, "{key}{labels}");
            }
        }
        for (number, counted) in progress.counted.iter().enumerate() {
            let series = format!(r#"last{{writer="old-{number}"}}"#);
            assert_eq!(scraped(scraping, &series), counted.load(Ordering::Relaxed) as f64);
        }
        assert_eq!(scraped(scraping, "time_count"), new + old);
        let report = scraping.migrate().unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(scraped(scraping, "time_count"), new + old + 1.0, "with the observation of 0.0.9");
    }
}
