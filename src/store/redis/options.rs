//! The options of a Redis store, as the store URL gives them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix { path: PathBuf },
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(formatter, "Redis at [{host}]:{port}"),
            Self::Tcp { host, port } => write!(formatter, "Redis at {host}:{port}"),
            Self::Unix { path } => write!(formatter, "Redis at {}", path.display()),
        }
    }
}

/// What a store URL can say about a Redis store.
pub(crate) struct RedisOptions {
    pub(crate) address: Address,
    pub(crate) database: u32,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) client_name: Option<String>,
    pub(crate) keepalive: bool,
    /// Stands in front of each key, with a dash.
    pub(crate) key_prefix: Option<String>,
    /// Seconds after its last write or scrape at which a key expires.
    pub(crate) expire_key_time: u64,
    /// How long changes gather, at most, before they are sent.
    pub(crate) flush_interval: Duration,
    /// How long connecting may take, login included; resolving a host name is not.
    pub(crate) connect_timeout: Duration,
    /// How long the server may take to answer what is sent to it in one go.
    pub(crate) socket_timeout: Duration,
    /// How long a scrape or a read may take in all.
    pub(crate) collect_timeout: Duration,
    /// How long closing may take to send what is pending.
    pub(crate) shutdown_timeout: Duration,
    pub(crate) pipeline_threads: usize,
    /// Whether an unreachable server is an error when the store is opened.
    pub(crate) required: bool,
}

impl RedisOptions {
    pub(crate) fn new(address: Address) -> Self {
        Self {
            address,
            database: 0,
            username: None,
            password: None,
            client_name: None,
            keepalive: false,
            key_prefix: None,
            expire_key_time: 3600,
            flush_interval: Duration::from_millis(5),
            connect_timeout: Duration::from_secs(5),
            socket_timeout: Duration::from_secs(5),
            collect_timeout: Duration::from_secs(10),
            shutdown_timeout: Duration::from_secs(2),
            pipeline_threads: 4,
            required: true,
        }
    }
}

impl fmt::Debug for RedisOptions {
    /// Without the password: what is shown in a log or a panic must not hold it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RedisOptions")
            .field("address", &self.address)
            .field("database", &self.database)
            .field("key_prefix", &self.key_prefix)
            .finish_non_exhaustive()
    }
}
