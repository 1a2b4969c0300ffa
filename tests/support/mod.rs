//! The integration tests share these: a private redis-server, raw commands to it, a proxy that breaks
//! connections in chosen ways, an HTTP client, and a logger that keeps records. They only know the public API
//! of the engine. Every wait is for a condition, and its time limit only turns a hang into a failure.
#![allow(dead_code, unsafe_code)]

pub mod cluster;
pub mod http;
pub mod process;
pub mod proxy;
pub mod replicas;
pub mod sentinels;
pub mod shared_file;
pub mod writers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use pytheus_backend_rs::{Backend, Definition, Error, ErrorKind, Lifetime, Metric, MetricFamily, MetricType};
use redis::{Connection, FromRedisValue};

/// The time after which a wait counts as a hang.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds; panics with `what` if it does not.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < give_up, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Returns a free port below the ephemeral range, so that no client's socket takes it while a server restarts
/// (and no client connects to itself). The port 10,000 above it is below that range too: there a node of a
/// cluster listens to the other nodes, because Redis 6.2 knows no option for another one.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id().wrapping_mul(37);
        let port = 12_000 + (offset % 10_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Returns the server program of the tests: what the variable PYTHEUS_TEST_REDIS_SERVER names, or redis-server.
pub fn server_program() -> PathBuf {
    std::env::var_os("PYTHEUS_TEST_REDIS_SERVER").map_or_else(|| "redis-server".into(), PathBuf::from)
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

    /// Starts a server with extra arguments, as in `["--requirepass", "secret"]`.
    pub fn start_with(arguments: &[&str]) -> Self {
        loop {
            let mut server = Self::not_started(arguments);
            if server.try_run() {
                return server;
            }
            let output = server.output();
            assert!(
                output.contains("in use"),
                "{} does not start with {arguments:?}. It says: {output}",
                server_program().display()
            );
        }
    }

    /// Reserves a port for a server without starting it.
    pub fn not_started(arguments: &[&str]) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("pytheus-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { port: free_port(), folder, arguments, process: None }
    }

    /// Starts the server on its port, for the first time or after [`kill`](Self::kill).
    pub fn run(&mut self) {
        let program = server_program();
        assert!(
            self.try_run(),
            "{} does not start at port {}. It says: {}",
            program.display(),
            self.port,
            self.output()
        );
    }

    /// Returns what the server has written since its last start.
    fn output(&self) -> String {
        std::fs::read_to_string(self.output_file()).unwrap_or_default()
    }

    fn output_file(&self) -> PathBuf {
        self.folder.join("output")
    }

    fn try_run(&mut self) -> bool {
        let program = server_program();
        let mut command = Command::new(&program);
        if self.arguments.iter().any(|argument| argument == "--sentinel") {
            // A Sentinel keeps what it knows in its configuration.
            let file = self.folder.join("sentinel.conf");
            std::fs::OpenOptions::new().create(true).append(true).open(&file).unwrap();
            command.arg(file);
        }
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no", "--daemonize", "no"]);
        command.args(["--unixsocket", &self.unix_socket().to_string_lossy()]);
        command.arg("--dir").arg(&self.folder).args(&self.arguments);
        let output = std::fs::File::create(self.output_file()).unwrap();
        command.stdout(output.try_clone().unwrap()).stderr(output);
        // SAFETY: prctl is a plain system call. The server ends with the thread that started it, even if
        // the test is killed.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let process = command.spawn().unwrap_or_else(|error| {
            panic!("these tests need redis-server (apt-get install redis-server); {program:?} cannot be run: {error}")
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

    /// Returns the process that answers at the port, which may be another test's server.
    fn answering_pid(&self) -> Option<u32> {
        let client = redis::Client::open(self.url_with_password()).ok()?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(5)).ok()?;
        let info: String = redis::cmd("INFO").arg("server").query(&mut connection).ok()?;
        info.lines().find_map(|line| line.strip_prefix("process_id:"))?.trim().parse().ok()
    }

    /// Returns the password with which the server was started.
    pub fn password(&self) -> Option<&str> {
        let index = self.arguments.iter().position(|argument| argument == "--requirepass")?;
        Some(&self.arguments[index + 1])
    }

    fn url_with_password(&self) -> String {
        let login = self.password().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{login}127.0.0.1:{}/", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn unix_socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    /// Returns the store URL, with options as in `"flush_interval_ms=1&required=false"`.
    pub fn url(&self, options: &str) -> String {
        format!("redis://127.0.0.1:{}/?{options}", self.port)
    }

    /// Opens a raw connection.
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

    /// Returns a field of a hash as a number, or 0 without the field.
    pub fn field(&self, key: &str, field: &str) -> f64 {
        self.run_command::<Option<String>>(&["HGET", key, field]).map_or(0.0, |text| text.parse().unwrap())
    }

    /// Returns a string key as a number, or 0 without the key.
    pub fn value(&self, key: &str) -> f64 {
        self.run_command::<Option<String>>(&["GET", key]).map_or(0.0, |text| text.parse().unwrap())
    }

    /// Returns how often a command has been called, by INFO commandstats.
    pub fn calls_of(&self, command: &str) -> u64 {
        let info: String = self.run_words("INFO commandstats");
        let prefix = format!("cmdstat_{command}:calls=");
        let line = info.lines().find_map(|line| line.strip_prefix(&prefix));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    /// Returns the number of other connected clients.
    pub fn clients(&self) -> usize {
        self.run_words::<String>("CLIENT LIST").lines().count() - 1
    }

    /// Returns whether the process runs, or is stopped.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Stops the process: connections stay open, and nothing is answered.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Continues a stopped process.
    pub fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: i32) {
        let pid = self.process.as_ref().expect("the server runs").id();
        // SAFETY: a plain system call; the process is our child and has not been waited for.
        assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
    }

    /// Kills the process, which loses its data.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Server {
    /// Returns the files of the server, by their path in its folder.
    pub fn copy_files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = |folder: &std::path::Path| -> Vec<PathBuf> {
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
        };
        let (folders, top): (Vec<_>, Vec<_>) =
            files(&self.folder).into_iter().partition(|path| path.is_dir());
        let all = top.into_iter().chain(folders.iter().flat_map(|folder| files(folder)));
        all.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
    }

    /// Gives a server that does not run its files of an earlier time.
    pub fn restore_files(&self, files: &[(PathBuf, Vec<u8>)]) {
        files.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    }

    /// Makes the server lose its data without a word, as a restart does.
    pub fn lose_data(&mut self) {
        self.kill();
        self.run();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Opens a backend on the server.
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

/// Declares a counter without labels and returns its metric.
pub fn counter(backend: &Backend, name: &str) -> Arc<Metric> {
    declare(backend, name, MetricType::Counter, &[]).metric(&[]).unwrap()
}

/// Declares a gauge without labels and returns its metric.
pub fn gauge(backend: &Backend, name: &str) -> Arc<Metric> {
    declare(backend, name, MetricType::Gauge, &[]).metric(&[]).unwrap()
}

/// Sends all changes. Panics if that fails.
pub fn flush(backend: &Backend) {
    backend.flush(PATIENCE).unwrap();
}

/// Flushes until it succeeds.
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
                    // Leaves time for the server and the store's threads.
                    std::thread::yield_now();
                }
            })
        };
        Self { threads: (0..threads).map(start).collect(), ends, done }
    }

    /// Returns a lower bound of the increments so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits for `more` increments.
    pub fn wait_for(&self, more: u64) {
        let before = self.done();
        wait_until("the load goes on", || self.done() >= before + more);
    }

    /// Ends the threads and returns the number of increments.
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

/// Keeps the engine's log records from now on. All tests of a process share the log, so each looks for
/// records that name its own server's port or its own key.
pub fn remember_log() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        log::set_logger(&Memory).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
}

/// Returns the records at `level` that contain all of `parts`.
pub fn log_records(level: Level, parts: &[&str]) -> Vec<String> {
    let records = RECORDS.lock().unwrap();
    let wanted = records.iter().filter(|record| record.0 == level);
    let texts = wanted.map(|record| record.1.clone());
    texts.filter(|text| parts.iter().all(|part| text.contains(part))).collect()
}

/// Returns how often the engine logged the loss of the server at `port`.
pub fn times_lost(port: u16) -> usize {
    log_records(Level::Error, &["the store is lost", &format!(":{port}")]).len()
}

/// Returns how often the engine logged the return of the server at `port`.
pub fn times_back(port: u16) -> usize {
    log_records(Level::Info, &["is back", &format!(":{port}")]).len()
}

/// Returns the names of all keys.
pub fn keys(server: &Server) -> BTreeSet<String> {
    server.run_words("KEYS *")
}

/// Returns a hash with all its fields.
pub fn hash(server: &Server, key: &str) -> BTreeMap<String, String> {
    server.run_command(&["HGETALL", key])
}

/// Builds the expected contents of a hash.
pub fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Returns the sample lines of one family.
pub fn lines(backend: &Backend, name: &str) -> Vec<String> {
    let text = backend.collect_text().unwrap();
    text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
}

/// Opens a backend with a short socket timeout.
pub fn open_impatient(server: &Server) -> Backend {
    open(server, "socket_timeout=0.2&connect_timeout=0.2&collect_timeout=0.5&shutdown_timeout=0.5")
}

/// Returns whether the error says that the server cannot be reached in time.
pub fn is_out_of_reach(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}
