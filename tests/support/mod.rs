//! What the integration tests share: a real redis-server of the test's own, raw commands to it, a proxy
//! that breaks connections in chosen ways, an HTTP client, and a logger that remembers. Nothing here knows the engine
//! beyond its public API. Every wait is for a condition; its time limit only protects from hanging.
#![allow(dead_code, unsafe_code)]

pub mod http;
pub mod process;
pub mod proxy;
pub mod shared_file;

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use pytheus_backend_rs::{Backend, Definition, Lifetime, Metric, MetricFamily, MetricType};
use redis::{Connection, FromRedisValue};

/// How long a test waits for what must happen, before it calls it a hang.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds; panics with `what` if it does not.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < give_up, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A port that nobody listens at. Below the ephemeral ones, so that no client's socket takes it while
/// a server is being restarted (and no client that tries it connects to itself).
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id().wrapping_mul(37);
        let port = 12_000 + (offset % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A redis-server process that belongs to one test.
pub struct Server {
    port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// Starts a server and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more arguments, as in `["--requirepass", "secret"]`.
    pub fn start_with(arguments: &[&str]) -> Self {
        loop {
            let mut server = Self::not_started(arguments);
            if server.try_run() {
                return server;
            }
        }
    }

    /// A server that is not running yet, but has a port.
    pub fn not_started(arguments: &[&str]) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("pytheus-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { port: free_port(), folder, arguments, process: None }
    }

    /// Starts the server on its port, again after [`kill`](Self::kill).
    pub fn run(&mut self) {
        assert!(self.try_run(), "redis-server does not start at port {}: is the port taken?", self.port);
    }

    fn try_run(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no", "--daemonize", "no"]);
        command.args(["--unixsocket", &self.unix_socket().to_string_lossy()]);
        command.arg("--dir").arg(&self.folder).args(&self.arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: prctl is a plain system call. The server ends with the thread that started it, even if
        // the test is killed.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let process = command.spawn().unwrap_or_else(|error| {
            panic!("these tests need redis-server (apt-get install redis-server); it cannot be run: {error}")
        });
        let pid = process.id();
        self.process = Some(process);
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(Some(_)))) {
                self.process = None;
                return false;
            }
            if self.answering_pid() == Some(pid) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }

    /// The process that answers at the port: another test's server may have been faster.
    fn answering_pid(&self) -> Option<u32> {
        let client = redis::Client::open(self.url_with_password()).ok()?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(5)).ok()?;
        let info: String = redis::cmd("INFO").arg("server").query(&mut connection).ok()?;
        info.lines().find_map(|line| line.strip_prefix("process_id:"))?.trim().parse().ok()
    }

    fn url_with_password(&self) -> String {
        let password = self.arguments.iter().position(|argument| argument == "--requirepass");
        let login = password.map(|index| format!(":{}@", self.arguments[index + 1])).unwrap_or_default();
        format!("redis://{login}127.0.0.1:{}/", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn unix_socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    /// The store URL, with options as in `"flush_interval_ms=1&required=false"`.
    pub fn url(&self, options: &str) -> String {
        format!("redis://127.0.0.1:{}/?{options}", self.port)
    }

    /// A raw connection.
    pub fn connection(&self) -> Connection {
        redis::Client::open(self.url_with_password()).unwrap().get_connection().unwrap()
    }

    /// Runs a raw command, given as words that hold no spaces.
    pub fn run_words<T: FromRedisValue>(&self, words: &str) -> T {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.run_command(&words)
    }

    /// Runs a raw command.
    pub fn run_command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut self.connection()).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// A field of a hash as a number; 0 if there is none.
    pub fn field(&self, key: &str, field: &str) -> f64 {
        self.run_command::<Option<String>>(&["HGET", key, field]).map_or(0.0, |text| text.parse().unwrap())
    }

    /// A string key as a number; 0 if there is none.
    pub fn value(&self, key: &str) -> f64 {
        self.run_command::<Option<String>>(&["GET", key]).map_or(0.0, |text| text.parse().unwrap())
    }

    /// How often a command has been called, by INFO commandstats.
    pub fn calls_of(&self, command: &str) -> u64 {
        let info: String = self.run_words("INFO commandstats");
        let prefix = format!("cmdstat_{command}:calls=");
        let line = info.lines().find_map(|line| line.strip_prefix(&prefix));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    /// How many clients are connected, the one that asks not counted.
    pub fn clients(&self) -> usize {
        self.run_words::<String>("CLIENT LIST").lines().count() - 1
    }

    /// Stops the process as a debugger would; connections stay, nothing is answered.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets a stopped process go on.
    pub fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: i32) {
        let pid = self.process.as_ref().expect("the server runs").id();
        // SAFETY: a plain system call; the process is our child and has not been waited for.
        assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
    }

    /// Kills the process; all it had in memory is gone.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Opens a backend on the server; it connects quickly or not at all.
pub fn open(server: &Server, options: &str) -> Backend {
    Backend::open(&server.url(options)).unwrap()
}

/// Declares a family that lives as long as its backend.
pub fn declare(backend: &Backend, name: &str, metric_type: MetricType, labels: &[&str]) -> MetricFamily {
    declare_with_buckets(backend, name, metric_type, labels, &[])
}

pub fn declare_with_buckets(
    backend: &Backend,
    name: &str,
    metric_type: MetricType,
    labels: &[&str],
    buckets: &[f64],
) -> MetricFamily {
    let definition = Definition::new(name, "Some help.", metric_type, labels, buckets).unwrap();
    backend.declare(definition, labels, Lifetime::Backend).unwrap()
}

/// A counter without labels.
pub fn counter(backend: &Backend, name: &str) -> Arc<Metric> {
    declare(backend, name, MetricType::Counter, &[]).metric(&[]).unwrap()
}

/// A gauge without labels.
pub fn gauge(backend: &Backend, name: &str) -> Arc<Metric> {
    declare(backend, name, MetricType::Gauge, &[]).metric(&[]).unwrap()
}

/// Has everything sent, and panics if that fails.
pub fn flush(backend: &Backend) {
    backend.flush(PATIENCE).unwrap();
}

/// Flushes until it works, as it will once the store is back.
pub fn flush_at_last(backend: &Backend) {
    wait_until("everything is sent", || backend.flush(PATIENCE).is_ok());
}

/// Threads that increment a counter without a pause until they are told to end.
pub struct Load {
    ends: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn start(counter: &Arc<Metric>, threads: usize) -> Self {
        let (ends, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = |_| {
            let (counter, ends, done) = (Arc::clone(counter), Arc::clone(&ends), Arc::clone(&done));
            std::thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    for _ in 0..100 {
                        counter.inc(1.0).unwrap();
                    }
                    done.fetch_add(100, Ordering::Relaxed);
                    // The server and the store's threads want to run too.
                    std::thread::yield_now();
                }
            })
        };
        Self { threads: (0..threads).map(start).collect(), ends, done }
    }

    /// How many increments are done so far, at least.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until there were `more` increments from now on.
    pub fn wait_for(&self, more: u64) {
        let before = self.done();
        wait_until("the load goes on", || self.done() >= before + more);
    }

    /// Ends the threads, and gives the number of increments.
    pub fn end(self) -> f64 {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.done.load(Ordering::Relaxed) as f64
    }
}

static RECORDS: Mutex<Vec<(Level, String)>> = Mutex::new(Vec::new());

struct Memory;

impl Log for Memory {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("pytheus_backend_rs")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            RECORDS.lock().unwrap().push((record.level(), record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Remembers what the engine logs from now on. All tests of a process share the log, so tests look for
/// records that name their own server's port or their own key.
pub fn remember_log() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        log::set_logger(&Memory).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
}

/// The records at `level` that contain all of `parts`.
pub fn log_records(level: Level, parts: &[&str]) -> Vec<String> {
    let records = RECORDS.lock().unwrap();
    let wanted = records.iter().filter(|record| record.0 == level);
    let texts = wanted.map(|record| record.1.clone());
    texts.filter(|text| parts.iter().all(|part| text.contains(part))).collect()
}

/// How often the engine said that the server at `port` is lost.
pub fn times_lost(port: u16) -> usize {
    log_records(Level::Error, &["the store is lost", &format!(":{port}")]).len()
}

/// How often the engine said that the server at `port` is back.
pub fn times_back(port: u16) -> usize {
    log_records(Level::Info, &["is back", &format!(":{port}")]).len()
}
