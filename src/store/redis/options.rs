//! The options of a Redis store, as its URL gives them.
//!
//! [`OPTIONS`] is the only place that knows their names, ranges and defaults.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::tls::{Tls, TlsOptions};
use crate::store::option::{StoreOption, at_least_one, boolean, seconds, set_defaults};

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp {
        host: String,
        port: u16,
    },
    Unix {
        path: PathBuf,
    },
    /// A server of Redis Sentinel, which knows where masters are.
    Sentinel {
        host: String,
        port: u16,
    },
    /// The master of a service, where one of the Sentinels says that it is.
    Master {
        service: String,
        sentinels: Vec<Address>,
    },
    /// A cluster, some of whose nodes are named.
    Cluster {
        nodes: Vec<Address>,
    },
}

impl Address {
    /// Returns the host and the port, if there is one of each.
    pub(crate) fn host_and_port(&self) -> Option<(&str, u16)> {
        match self {
            Self::Tcp { host, port } | Self::Sentinel { host, port } => Some((host, *port)),
            Self::Unix { .. } | Self::Master { .. } | Self::Cluster { .. } => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if matches!(self, Self::Sentinel { .. }) { "Sentinel" } else { "Redis" };
        match self {
            Self::Tcp { host, port } | Self::Sentinel { host, port } if host.contains(':') => {
                write!(formatter, "{what} at [{host}]:{port}")
            }
            Self::Tcp { host, port } | Self::Sentinel { host, port } => {
                write!(formatter, "{what} at {host}:{port}")
            }
            Self::Unix { path } => write!(formatter, "{what} at {}", path.display()),
            Self::Master { service, .. } => write!(formatter, "Redis master {service:?}"),
            Self::Cluster { nodes } => {
                let hosts = nodes.iter().filter_map(Self::host_and_port);
                let hosts: Vec<String> = hosts.map(|(host, port)| format!("{host}:{port}")).collect();
                write!(formatter, "Redis Cluster at {}", hosts.join(", "))
            }
        }
    }
}

/// What a store URL can say about a Redis store.
pub(crate) struct RedisOptions {
    pub(crate) address: Address,
    pub(crate) database: u32,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    /// The login of the Sentinels, which have users of their own.
    pub(crate) sentinel_username: Option<String>,
    pub(crate) sentinel_password: Option<String>,
    /// Whether the Sentinels speak TLS. `None`: if the servers do.
    pub(crate) sentinel_ssl: Option<bool>,
    pub(crate) client_name: Option<String>,
    pub(crate) keepalive: bool,
    /// Precedes the name of each key, followed by a dash.
    pub(crate) key_prefix: Option<String>,
    /// How many seconds after its last write or scrape a key expires. 0: never.
    pub(crate) expire_key_time: u64,
    /// How long changes are gathered before they are sent, while there are few.
    pub(crate) flush_interval: Duration,
    /// How long changes are gathered at most, while there are many.
    pub(crate) max_flush_interval: Duration,
    /// How long connecting may take, from the resolution of the host name to the login.
    pub(crate) connect_timeout: Duration,
    /// How long the server may take to answer one request.
    pub(crate) socket_timeout: Duration,
    /// How long a scrape or a read may take altogether.
    pub(crate) collect_timeout: Duration,
    /// How long closing the store may take to send what is pending.
    pub(crate) shutdown_timeout: Duration,
    pub(crate) pipeline_threads: usize,
    /// How many replicas must have a batch before it is dropped from the replay log. `None`: as many as the
    /// server has.
    pub(crate) replicas: Option<usize>,
    /// Whether scrapes read values from a replica that has everything.
    pub(crate) read_from_replicas: bool,
    /// About how many bytes of memory the replay log may take. 0: there is no log.
    pub(crate) replay_log: usize,
    /// Whether an unreachable server is an error when the store is opened.
    pub(crate) required: bool,
    /// Whether the program only reads, so that its user need not be allowed to run scripts.
    pub(crate) read_only: bool,
    /// The TLS options of the URL.
    pub(crate) tls_options: TlsOptions,
    /// The TLS configuration of a `rediss://` URL. `None` means no TLS.
    pub(crate) tls: Option<Tls>,
    /// The TLS configuration for the Sentinels. `None` means no TLS.
    pub(crate) sentinel_tls: Option<Tls>,
}

impl RedisOptions {
    /// Returns whether the values are on a cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.address, Address::Cluster { .. })
    }

    /// Returns the defaults, as [`OPTIONS`] declares them, for the server at `address`.
    pub(crate) fn new(address: Address) -> Self {
        let mut options = Self {
            address,
            database: 0,
            username: None,
            password: None,
            sentinel_username: None,
            sentinel_password: None,
            sentinel_ssl: None,
            client_name: None,
            keepalive: false,
            key_prefix: None,
            expire_key_time: 0,
            flush_interval: Duration::ZERO,
            max_flush_interval: Duration::ZERO,
            connect_timeout: Duration::ZERO,
            socket_timeout: Duration::ZERO,
            collect_timeout: Duration::ZERO,
            shutdown_timeout: Duration::ZERO,
            pipeline_threads: 0,
            replicas: None,
            read_from_replicas: false,
            replay_log: 0,
            required: true,
            read_only: false,
            tls_options: TlsOptions::default(),
            tls: None,
            sentinel_tls: None,
        };
        set_defaults(OPTIONS, &mut options);
        options
    }
}

const SECONDS: &str = "a number of seconds from 0.001 to 1000000";
const TRUE_OR_FALSE: &str = "true or false";

/// Declares the options of the Redis URLs.
pub(crate) const OPTIONS: &[StoreOption<RedisOptions>] = &[
    StoreOption {
        name: "db",
        alias: None,
        expected: "a database number",
        default: Some("0"),
        help: "the number of the logical database, unless the path of the URL gives it",
        set: |options, value| value.parse().ok().map(|number| options.database = number),
    },
    StoreOption {
        name: "username",
        alias: None,
        expected: "text",
        default: None,
        help: "the user to log in as, unless the URL gives it before the host",
        set: |options, value| {
            options.username = Some(value.to_owned());
            Some(())
        },
    },
    StoreOption {
        name: "password",
        alias: None,
        expected: "text",
        default: None,
        help: "the password to log in with, unless the URL gives it before the host",
        set: |options, value| {
            options.password = Some(value.to_owned());
            Some(())
        },
    },
    StoreOption {
        name: "sentinel_username",
        alias: None,
        expected: "text",
        default: None,
        help: "with redis-sentinel://: the user to log in as at the Sentinels",
        set: |options, value| {
            options.sentinel_username = Some(value.to_owned());
            Some(())
        },
    },
    StoreOption {
        name: "sentinel_password",
        alias: None,
        expected: "text",
        default: None,
        help: "with redis-sentinel://: the password to log in with at the Sentinels",
        set: |options, value| {
            options.sentinel_password = Some(value.to_owned());
            Some(())
        },
    },
    StoreOption {
        name: "sentinel_ssl",
        alias: None,
        expected: TRUE_OR_FALSE,
        default: None,
        help: "with redis-sentinel://: whether the Sentinels speak TLS, unless they do if the servers do",
        set: |options, value| boolean(value).map(|speaks| options.sentinel_ssl = Some(speaks)),
    },
    StoreOption {
        name: "client_name",
        alias: None,
        expected: "text",
        default: None,
        help: "the name of the connections in CLIENT LIST, instead of program:host:pid",
        set: |options, value| {
            options.client_name = Some(value.to_owned());
            Some(())
        },
    },
    StoreOption {
        name: "key_prefix",
        alias: None,
        expected: "text without braces, which have a meaning for Redis Cluster",
        default: None,
        help: "text that precedes the name of each key, followed by a dash",
        set: |options, value| {
            let is_usable = !value.is_empty() && !value.contains(['{', '}']);
            options.key_prefix = Some(is_usable.then(|| value.to_owned())?);
            Some(())
        },
    },
    StoreOption {
        name: "expire_key_time",
        alias: None,
        expected: "a whole number of seconds, or never",
        default: Some("3600"),
        help: "how many seconds after its last write or scrape a key expires, or never (or 0) to keep all keys",
        set: |options, value| {
            options.expire_key_time = if matches!(value, "never" | "0") { 0 } else { at_least_one(value)? };
            Some(())
        },
    },
    StoreOption {
        name: "flush_interval_ms",
        alias: None,
        expected: "a whole number of milliseconds, at least 1",
        default: Some("5"),
        help: "how many milliseconds changes are gathered before they are sent, while there are few",
        set: |options, value| {
            options.flush_interval = Duration::from_millis(at_least_one(value)?);
            Some(())
        },
    },
    StoreOption {
        name: "max_flush_interval_ms",
        alias: None,
        expected: "a whole number of milliseconds, at least 1",
        default: Some("250"),
        help: "how many milliseconds changes are gathered at most, by a process that always has some to send; \
               no effect below flush_interval_ms",
        set: |options, value| {
            options.max_flush_interval = Duration::from_millis(at_least_one(value)?);
            Some(())
        },
    },
    StoreOption {
        name: "connect_timeout",
        alias: Some("socket_connect_timeout"),
        expected: SECONDS,
        default: Some("5"),
        help: "how many seconds connecting may take, from the look-up of the host to the login",
        set: |options, value| seconds(value).map(|timeout| options.connect_timeout = timeout),
    },
    StoreOption {
        name: "socket_timeout",
        alias: None,
        expected: SECONDS,
        default: Some("5"),
        help: "how many seconds the server may take to answer",
        set: |options, value| seconds(value).map(|timeout| options.socket_timeout = timeout),
    },
    StoreOption {
        name: "collect_timeout",
        alias: None,
        expected: SECONDS,
        default: Some("10"),
        help: "how many seconds a scrape may take altogether",
        set: |options, value| seconds(value).map(|timeout| options.collect_timeout = timeout),
    },
    StoreOption {
        name: "shutdown_timeout",
        alias: None,
        expected: SECONDS,
        default: Some("2"),
        help: "how many seconds the end of the process may take to send what is pending",
        set: |options, value| seconds(value).map(|timeout| options.shutdown_timeout = timeout),
    },
    StoreOption {
        name: "pipeline_threads",
        alias: None,
        expected: "a number from 1 to 64",
        default: Some("4"),
        help: "how many threads serve scrapes, each with a connection while it reads",
        set: |options, value| {
            options.pipeline_threads = value.parse().ok().filter(|count| (1..=64).contains(count))?;
            Some(())
        },
    },
    StoreOption {
        name: "replicas",
        alias: None,
        expected: "a number from 0 to 100, or auto",
        default: Some("auto"),
        help: "how many replicas must have a batch before the process forgets it, or auto for as many as the \
               server has; 0 for none",
        set: |options, value| {
            options.replicas = match value {
                "auto" => None,
                number => Some(number.parse().ok().filter(|count| *count <= 100)?),
            };
            Some(())
        },
    },
    StoreOption {
        name: "read_from_replicas",
        alias: None,
        expected: TRUE_OR_FALSE,
        default: Some("false"),
        help: "whether scrapes read values from a replica, if one has all that the master has",
        set: |options, value| boolean(value).map(|reads| options.read_from_replicas = reads),
    },
    StoreOption {
        name: "replay_log_mb",
        alias: None,
        expected: "a whole number of megabytes up to 1024",
        default: Some("16"),
        help: "how many megabytes of memory may hold batches that the server has confirmed and could still \
               lose; 0 for none",
        set: |options, value| {
            let megabytes: usize = value.parse().ok().filter(|count| *count <= 1024)?;
            options.replay_log = megabytes << 20;
            Some(())
        },
    },
    StoreOption {
        name: "required",
        alias: None,
        expected: TRUE_OR_FALSE,
        default: Some("true"),
        help: "whether a server that cannot be reached is an error when the store is opened (true), or is \
               connected to as soon as it can be (false)",
        set: |options, value| boolean(value).map(|required| options.required = required),
    },
    StoreOption {
        name: "read_only",
        alias: None,
        expected: TRUE_OR_FALSE,
        default: Some("false"),
        help: "for a program that only reads: do not check that the server takes what counting needs",
        set: |options, value| boolean(value).map(|read_only| options.read_only = read_only),
    },
    StoreOption {
        name: "ssl_ca_certs",
        alias: None,
        expected: "the path of a file",
        default: None,
        help: "with rediss://: a file of PEM certificates to trust instead of those of the system",
        set: |options, value| {
            options.tls_options.ca_certs = Some(value.into());
            Some(())
        },
    },
    StoreOption {
        name: "ssl_ca_data",
        alias: None,
        expected: "certificates in PEM form",
        default: None,
        help: "with rediss://: PEM certificates to trust instead of those of the system, as text",
        set: |options, value| {
            options.tls_options.ca_data = Some(value.to_owned());
            Some(())
        },
    },
    StoreOption {
        name: "ssl_pinned_certfile",
        alias: None,
        expected: "the path of a file",
        default: None,
        help: "with rediss://: a file of PEM certificates, one of which the server must show; neither its \
               issuer nor its dates are verified",
        set: |options, value| {
            options.tls_options.pinned = Some(value.into());
            Some(())
        },
    },
    StoreOption {
        name: "ssl_certfile",
        alias: None,
        expected: "the path of a file",
        default: None,
        help: "with rediss://: the PEM certificate to show to the server",
        set: |options, value| {
            options.tls_options.certificate = Some(value.into());
            Some(())
        },
    },
    StoreOption {
        name: "ssl_keyfile",
        alias: None,
        expected: "the path of a file",
        default: None,
        help: "with rediss://: the PEM private key of that certificate, unless it is in the same file",
        set: |options, value| {
            options.tls_options.key = Some(value.into());
            Some(())
        },
    },
    StoreOption {
        name: "ssl_cert_reqs",
        alias: None,
        expected: "required or none",
        default: Some("required"),
        help: "with rediss://: whether the certificate of the server is verified",
        set: |options, value| {
            options.tls_options.skips_verification = match value {
                "required" => false,
                "none" => true,
                _ => return None,
            };
            Some(())
        },
    },
    StoreOption {
        name: "ssl_check_hostname",
        alias: None,
        expected: TRUE_OR_FALSE,
        default: Some("true"),
        help: "with rediss://: whether the certificate must be for the name of the host",
        set: |options, value| boolean(value).map(|checks| options.tls_options.skips_name = !checks),
    },
    StoreOption {
        name: "tls_server_name",
        alias: None,
        expected: "a host name",
        default: None,
        help: "with rediss://: the name that the certificate must have, instead of that of the host",
        set: |options, value| {
            options.tls_options.server_name = Some(value.to_owned());
            Some(())
        },
    },
    StoreOption {
        name: "socket_keepalive",
        alias: None,
        expected: TRUE_OR_FALSE,
        default: Some("false"),
        help: "whether TCP keep-alive is on",
        set: |options, value| boolean(value).map(|keepalive| options.keepalive = keepalive),
    },
];

impl fmt::Debug for RedisOptions {
    /// Leaves the password out, because debug output reaches logs and panic messages.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RedisOptions")
            .field("address", &self.address)
            .field("database", &self.database)
            .field("key_prefix", &self.key_prefix)
            .finish_non_exhaustive()
    }
}
