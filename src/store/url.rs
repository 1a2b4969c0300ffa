//! Reads a store URL: the only place that knows the names of the options.
//!
//! An option that is unknown, given twice or out of range is an error that names it. No error repeats
//! the URL, since it may hold a password.

use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::memory::CellKind;
use super::redis::{Address, RedisOptions};
use super::shared_memory::{SharedMemoryOptions, Start};
use crate::model::error::{Error, ErrorKind, Result};

/// What a store URL says.
#[derive(Debug)]
pub(crate) enum StoreOptions {
    Memory(CellKind),
    SharedMemory(SharedMemoryOptions),
    Redis(Box<RedisOptions>),
}

const EXPECTED: &str = "expected memory:, memory:?cell=mutex, shm:///path, redis://host:port/db or \
     redis+unix:///path";

/// Room for some 500,000 counters.
const DEFAULT_SIZE_LIMIT: u64 = 64 << 20;

/// The option of [`parse_self_metrics`].
const SELF_METRICS: &str = "self_metrics";

const REDIS_OPTIONS: &str = "db, username, password, key_prefix, expire_key_time, flush_interval_ms, \
     connect_timeout (or socket_connect_timeout), socket_timeout, collect_timeout, shutdown_timeout, \
     pipeline_threads, required, client_name, socket_keepalive";

/// Reads `text`.
pub(crate) fn parse(text: &str) -> Result<StoreOptions> {
    let Ok(url) = Url::parse(text) else {
        return Err(configuration(format!("the store URL is malformed: {EXPECTED}")));
    };
    check_parts(&url)?;
    match url.scheme() {
        "memory" => parse_memory(&url).map(StoreOptions::Memory),
        "shm" => parse_shared_memory(&url).map(StoreOptions::SharedMemory),
        "redis" | "valkey" => parse_redis_tcp(&url).map(Box::new).map(StoreOptions::Redis),
        "redis+unix" | "valkey+unix" | "unix" => {
            parse_redis_unix(&url).map(Box::new).map(StoreOptions::Redis)
        }
        "rediss" | "valkeys" => Err(configuration(
            "TLS (rediss://, ssl=True) is not supported by this version: use redis:// on a trusted \
             network or through a TLS tunnel",
        )),
        other => Err(configuration(format!("unknown store {other:?}: {EXPECTED}"))),
    }
}

/// Reads the option that every store has: whether the backend tells about itself by metrics of its own.
pub(crate) fn parse_self_metrics(text: &str) -> Result<bool> {
    // What is malformed is told by `parse`.
    let Ok(url) = Url::parse(text) else { return Ok(false) };
    let value = url.query_pairs().find(|(name, _)| name == SELF_METRICS);
    value.map_or(Ok(false), |(_, value)| parse_bool(SELF_METRICS, &value))
}

/// Refuses what would be cut off or misread without a word: most often a password that holds one of these
/// characters as it is.
fn check_parts(url: &Url) -> Result<()> {
    let has_at = url.path().contains('@') || url.query().is_some_and(|query| query.contains('@'));
    if has_at || url.fragment().is_some() {
        return Err(configuration(
            "the store URL has an \"@\" or \"#\" behind the host: write %40, %23, %2F and %3F for @, #, / and ? \
             in a user name, a password or an option",
        ));
    }
    Ok(())
}

fn parse_memory(url: &Url) -> Result<CellKind> {
    if url.has_authority() || !url.path().is_empty() {
        return Err(configuration(
            "memory: takes no host and no path: expected memory: or memory:?cell=mutex",
        ));
    }
    let mut cell = CellKind::default();
    for_each_option(url, |name, value| {
        cell = match (name, value) {
            ("cell", "atomic") => CellKind::Atomic,
            ("cell", "mutex") => CellKind::Mutex,
            ("cell", _) => return Err(bad_value(name, value, "atomic or mutex")),
            _ => return Err(unknown_option(name, "memory", "cell")),
        };
        Ok(())
    })?;
    Ok(cell)
}

fn parse_shared_memory(url: &Url) -> Result<SharedMemoryOptions> {
    let is_absolute = url.path().starts_with('/') && url.path().len() > 1;
    if url.host_str().is_some_and(|host| !host.is_empty()) || !is_absolute {
        return Err(configuration("shm:// needs the absolute path of a file, as in shm:///dev/shm/metrics"));
    }
    let mut options = SharedMemoryOptions {
        path: decode(url.path())?.into(),
        size_limit: DEFAULT_SIZE_LIMIT,
        start: Start::default(),
        mode: 0o600,
        required: true,
    };
    let mut required = None;
    for_each_option(url, |name, value| {
        match name {
            "size_limit" => {
                let expected = "a number of bytes from 1048576 to 1099511627776";
                options.size_limit = parse_number(name, value, expected)?;
                if !(1 << 20..=1 << 40).contains(&options.size_limit) {
                    return Err(bad_value(name, value, expected));
                }
            }
            "start" => {
                options.start = match value {
                    "continue" => Start::Continue,
                    "reset" => Start::Reset,
                    "attach" => Start::Attach,
                    _ => return Err(bad_value(name, value, "continue, reset or attach")),
                }
            }
            "required" => required = Some(parse_bool(name, value)?),
            "mode" => match u32::from_str_radix(value, 8) {
                Ok(mode) if mode & !0o777 == 0 && mode & 0o600 == 0o600 => options.mode = mode,
                _ => {
                    return Err(bad_value(
                        name,
                        value,
                        "octal permissions that let the owner read and write, as in 0600",
                    ));
                }
            },
            _ => return Err(unknown_option(name, "shm", "size_limit, start, mode, required")),
        }
        Ok(())
    })?;
    if let Some(required) = required {
        if options.start != Start::Attach {
            return Err(configuration("option \"required\" of the shm store goes with start=attach"));
        }
        options.required = required;
    }
    Ok(options)
}

fn parse_redis_tcp(url: &Url) -> Result<RedisOptions> {
    if !url.has_authority() {
        return Err(configuration("the host is missing: expected redis://host:port/db"));
    }
    let host = match url.host_str() {
        None | Some("") => "127.0.0.1".to_owned(),
        // An IPv6 address stands in brackets in a URL, and without them everywhere else. The host of
        // a URL of this scheme is percent-encoded.
        Some(host) => decode(host.trim_start_matches('[').trim_end_matches(']'))?,
    };
    let mut options = RedisOptions::new(Address::Tcp { host, port: url.port().unwrap_or(6379) });
    let path = url.path().trim_start_matches('/');
    if !path.is_empty() {
        options.database = parse_number("db", path, "a database number")?;
        if url.query_pairs().any(|(name, _)| name == "db") {
            return Err(configuration("option \"db\" is given twice: in the path and as an option"));
        }
    }
    parse_redis_options(url, &mut options)?;
    Ok(options)
}

fn parse_redis_unix(url: &Url) -> Result<RedisOptions> {
    if url.host_str().is_some_and(|host| !host.is_empty()) || !url.path().starts_with('/') {
        return Err(configuration(
            "redis+unix:// needs the absolute path of a socket, as in redis+unix:///run/redis.sock",
        ));
    }
    let mut options = RedisOptions::new(Address::Unix { path: decode(url.path())?.into() });
    parse_redis_options(url, &mut options)?;
    Ok(options)
}

fn parse_redis_options(url: &Url, options: &mut RedisOptions) -> Result<()> {
    if !url.username().is_empty() {
        options.username = Some(decode(url.username())?);
    }
    if let Some(password) = url.password() {
        options.password = Some(decode(password)?);
    }
    for_each_option(url, |name, value| {
        match name {
            "db" => options.database = parse_number(name, value, "a database number")?,
            "username" => options.username = Some(value.to_owned()),
            "password" => options.password = Some(value.to_owned()),
            "key_prefix" if value.is_empty() || value.contains(['{', '}']) => {
                return Err(bad_value(name, value, "text without braces, which Redis Cluster looks at"));
            }
            "key_prefix" => options.key_prefix = Some(value.to_owned()),
            "expire_key_time" => options.expire_key_time = parse_at_least_one(name, value, "seconds")?,
            "flush_interval_ms" => {
                let milliseconds = parse_at_least_one(name, value, "milliseconds")?;
                options.flush_interval = Duration::from_millis(milliseconds);
            }
            "connect_timeout" | "socket_connect_timeout" => {
                options.connect_timeout = parse_seconds(name, value)?
            }
            "socket_timeout" => options.socket_timeout = parse_seconds(name, value)?,
            "collect_timeout" => options.collect_timeout = parse_seconds(name, value)?,
            "shutdown_timeout" => options.shutdown_timeout = parse_seconds(name, value)?,
            "pipeline_threads" => {
                options.pipeline_threads = parse_number(name, value, "a number from 1 to 64")?;
                if !(1..=64).contains(&options.pipeline_threads) {
                    return Err(bad_value(name, value, "a number from 1 to 64"));
                }
            }
            "required" => options.required = parse_bool(name, value)?,
            "client_name" => options.client_name = Some(value.to_owned()),
            "socket_keepalive" => options.keepalive = parse_bool(name, value)?,
            _ => return Err(unknown_option(name, "redis", REDIS_OPTIONS)),
        }
        Ok(())
    })
}

fn for_each_option(url: &Url, mut read: impl FnMut(&str, &str) -> Result<()>) -> Result<()> {
    let mut seen = Vec::new();
    for (name, value) in url.query_pairs() {
        if seen.contains(&name) {
            return Err(configuration(format!("option {name:?} is given twice")));
        }
        if name != SELF_METRICS {
            read(&name, &value)?;
        }
        seen.push(name);
    }
    Ok(())
}

fn parse_number<T: FromStr>(name: &str, value: &str, expected: &str) -> Result<T> {
    value.parse().map_err(|_| bad_value(name, value, expected))
}

fn parse_at_least_one(name: &str, value: &str, unit: &str) -> Result<u64> {
    let expected = format!("a whole number of {unit}, at least 1");
    match value.parse() {
        Ok(number) if (1..=u64::from(u32::MAX)).contains(&number) => Ok(number),
        _ => Err(bad_value(name, value, &expected)),
    }
}

fn parse_seconds(name: &str, value: &str) -> Result<Duration> {
    match value.parse::<f64>() {
        Ok(seconds) if (0.001..=1e6).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(bad_value(name, value, "a number of seconds from 0.001 to 1000000")),
    }
}

fn parse_bool(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(bad_value(name, value, "true or false")),
    }
}

fn decode(text: &str) -> Result<String> {
    // A query pair is the url crate's one public percent decoder; "+" would be a space in it.
    let escaped = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let (decoded, _) = url::form_urlencoded::parse(escaped.as_bytes()).next().unwrap_or_default();
    Ok(decoded.into_owned())
}

fn unknown_option(name: &str, store: &str, known: &str) -> Error {
    configuration(format!("unknown option {name:?} for the {store} store: it has {known}, {SELF_METRICS}"))
}

fn bad_value(name: &str, value: &str, expected: &str) -> Error {
    configuration(format!("option {name:?} is {value:?}: expected {expected}"))
}

fn configuration(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(url: &str) -> RedisOptions {
        match parse(url) {
            Ok(StoreOptions::Redis(options)) => *options,
            other => panic!("{url}: {other:?}"),
        }
    }

    fn refusal(url: &str) -> String {
        let error = parse(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{url}");
        error.message().to_owned()
    }

    #[test]
    fn memory_urls() {
        assert!(matches!(parse("memory:"), Ok(StoreOptions::Memory(CellKind::Atomic))));
        assert!(matches!(parse("memory:?cell=mutex"), Ok(StoreOptions::Memory(CellKind::Mutex))));
        assert!(refusal("memory:?cell=spin").contains("\"spin\""));
        assert!(refusal("memory:?cel=mutex").contains("unknown option \"cel\""));
    }

    #[test]
    fn every_store_can_have_metrics_of_its_own() {
        for url in ["memory:", "memory:?cell=mutex", "shm:///tmp/x", "redis://h", "redis+unix:///tmp/x"] {
            assert!(!parse_self_metrics(url).unwrap(), "{url}");
            let separator = if url.contains('?') { '&' } else { '?' };
            let url = format!("{url}{separator}self_metrics=true");
            assert!(parse(&url).is_ok(), "{url}");
            assert!(parse_self_metrics(&url).unwrap(), "{url}");
            let error = parse_self_metrics(&url.replace("true", "2")).unwrap_err();
            assert!(error.message().contains("\"self_metrics\" is \"2\""), "{error}");
            assert!(refusal(&format!("{url}&self_metrics=true")).contains("given twice"));
        }
    }

    #[test]
    fn a_redis_url_says_everything() {
        let options = redis(
            "redis://us%40er:p%2Bw+%25@[::1]:6380/3?flush_interval_ms=7&expire_key_time=60&connect_timeout=0.5\
             &required=false&key_prefix=a%20b&pipeline_threads=2",
        );
        assert_eq!(options.address, Address::Tcp { host: "::1".into(), port: 6380 });
        assert_eq!(options.username.as_deref(), Some("us@er"));
        assert_eq!(options.password.as_deref(), Some("p+w+%"));
        assert_eq!(options.database, 3);
        assert_eq!(options.flush_interval, Duration::from_millis(7));
        assert_eq!(options.expire_key_time, 60);
        assert_eq!(options.connect_timeout, Duration::from_millis(500));
        assert!(!options.required);
        assert_eq!(options.key_prefix.as_deref(), Some("a b"));
        assert_eq!(options.pipeline_threads, 2);
    }

    #[test]
    fn a_redis_url_has_the_usual_defaults() {
        let options = redis("redis://example.org");
        assert_eq!(options.address, Address::Tcp { host: "example.org".into(), port: 6379 });
        assert_eq!(options.expire_key_time, 3600);
        assert_eq!(options.flush_interval, Duration::from_millis(5));
        assert_eq!(options.pipeline_threads, 4);
        assert!(options.required);
        let options = redis("redis+unix:///run/my%20redis.sock?db=2");
        assert_eq!(options.address, Address::Unix { path: "/run/my redis.sock".into() });
        assert_eq!(options.database, 2);
    }

    #[test]
    fn a_shared_memory_url_says_what_becomes_of_the_file() {
        let shared = |url: &str| match parse(url) {
            Ok(StoreOptions::SharedMemory(options)) => options,
            other => panic!("{url}: {other:?}"),
        };
        assert_eq!(shared("shm:///m").start, Start::Continue);
        assert_eq!(shared("shm:///m?start=reset").start, Start::Reset);
        let attached = shared("shm:///m%20n?start=attach&required=false");
        assert_eq!((attached.start, attached.required), (Start::Attach, false));
        assert_eq!(attached.path, std::path::Path::new("/m n"));
        assert!(shared("shm:///m?start=attach").required);
        assert!(refusal("shm:///m?start=attached").contains("continue, reset or attach"));
        assert!(refusal("shm:///m?required=false").contains("goes with start=attach"));
    }

    #[test]
    fn mistakes_are_named_and_passwords_are_not() {
        assert!(refusal("redis://h?bogus=1").contains("unknown option \"bogus\""));
        assert!(refusal("redis://h?db=x").contains("option \"db\" is \"x\""));
        assert!(refusal("redis://h?db=1&db=2").contains("given twice"));
        assert!(refusal("redis://h?flush_interval_ms=0").contains("flush_interval_ms"));
        assert!(refusal("redis://h?socket_timeout=nan").contains("socket_timeout"));
        assert!(refusal("redis://h?pipeline_threads=65").contains("from 1 to 64"));
        assert!(refusal("rediss://h").contains("TLS"));
        assert!(refusal("mysql://h").contains("\"mysql\""));
        assert!(refusal("memory:nonsense").contains("no path"));
        assert!(refusal("memory://host").contains("no host"));
        assert!(refusal("redis:1").contains("host is missing"));
        assert!(refusal("redis://h/0?db=1").contains("given twice"));
        assert!(refusal("redis+unix://run/redis.sock").contains("absolute path"));
        assert!(refusal("redis://h?password=a#b").contains("%23"));
        for url in [
            "redis://u:1/s3cret@h",
            "redis://u:1?s3cret@h",
            "redis://u:1#s3cret@h",
            "redis://u:s3cret@h:notaport",
            "redis://u:s3cret@[::1",
            "u:s3cret@h",
            ":s3cret@h",
        ] {
            assert!(!refusal(url).contains("s3cret"), "{url}: {}", refusal(url));
        }
        assert!(!format!("{:?}", redis("redis://u:s3cret@h")).contains("s3cret"));
    }
}
