//! Reads a store URL.
//!
//! The stores declare their options ([`super::option`]). This file knows the schemes, and the parts of a URL
//! before the query. No error repeats the URL, because it may hold a password.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

use super::memory;
use super::option::{CommonOptions, configuration, read_query};
use super::redis::{self, Address, RedisOptions, Tls};
use super::shared_memory::{self, SharedMemoryOptions, Start};
use crate::model::error::Result;

/// The store that a URL names, with the options of that store.
#[derive(Debug)]
pub(crate) enum StoreOptions {
    Memory,
    SharedMemory(SharedMemoryOptions),
    Redis(Box<RedisOptions>),
}

/// A parsed store URL.
#[derive(Debug)]
pub(crate) struct StoreUrl {
    pub(crate) store: StoreOptions,
    pub(crate) common: CommonOptions,
}

const EXPECTED: &str = "expected memory:, memory:?cell=mutex, shm:///path, redis://host:port/db, \
     rediss://host:port/db, redis-sentinel://host:port,host:port/master, redis-cluster://host:port,host:port \
     or redis+unix:///path";

/// The ports of a server and of a Sentinel if the URL names none.
const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

impl StoreUrl {
    /// Parses `text`.
    ///
    /// Fails with [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) if it is not a store URL, or
    /// if an option is unknown, given twice or out of range.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if let Some((before, hosts, behind)) = hosts_in(text) {
            return parse_several_hosts(before, hosts, behind);
        }
        let Ok(url) = Url::parse(text) else {
            return Err(configuration(format!("the store URL is malformed: {EXPECTED}")));
        };
        check_parts(&url)?;
        match url.scheme() {
            "memory" => parse_memory(&url),
            "shm" => parse_shared_memory(&url),
            "redis" | "valkey" => parse_redis_tcp(&url).and_then(without_tls),
            "redis+unix" | "valkey+unix" | "unix" => parse_redis_unix(&url).and_then(without_tls),
            "rediss" | "valkeys" => parse_redis_tls(&url),
            other => Err(configuration(format!("unknown store {other:?}: {EXPECTED}"))),
        }
    }
}

/// Refuses characters that would be cut off or misread silently. Most often they come from a password that is
/// not percent-encoded.
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

fn parse_memory(url: &Url) -> Result<StoreUrl> {
    if url.has_authority() || !url.path().is_empty() {
        return Err(configuration(
            "memory: takes no host and no path: expected memory: or memory:?cell=mutex",
        ));
    }
    let common = read_query("memory", url, memory::OPTIONS, &mut ())?;
    Ok(StoreUrl { store: StoreOptions::Memory, common })
}

fn parse_shared_memory(url: &Url) -> Result<StoreUrl> {
    let is_absolute = url.path().starts_with('/') && url.path().len() > 1;
    let has_no_path = url.path().is_empty() && !url.has_authority();
    if has_host(url) || !(is_absolute || has_no_path) {
        return Err(configuration(
            "shm:// needs the absolute path of a file, as in shm:///dev/shm/metrics; shm: without slashes is \
             the file of this process's service",
        ));
    }
    let path = is_absolute.then(|| decode_path(url.path()));
    let mut options = SharedMemoryOptions { path, ..SharedMemoryOptions::default() };
    let common = read_query("shm", url, shared_memory::OPTIONS, &mut options)?;
    if options.required.is_some() && options.start != Start::Attach {
        return Err(configuration("option \"required\" of the shm store needs start=attach"));
    }
    if options.start == Start::Attach && options.path.is_none() {
        return Err(configuration(
            "start=attach needs the absolute path of a file, as in shm:///dev/shm/metrics",
        ));
    }
    if options.parent.is_some() && options.path.is_some() {
        return Err(configuration("option \"parent\" of the shm store goes without a path"));
    }
    Ok(StoreUrl { store: StoreOptions::SharedMemory(options), common })
}

fn parse_redis_tls(url: &Url) -> Result<StoreUrl> {
    let mut parsed = parse_redis_tcp(url)?;
    if let StoreOptions::Redis(options) = &mut parsed.store {
        let host = options.address.host_and_port().map(|(host, _)| host);
        options.tls = Some(Tls::new(&options.tls_options, host)?);
    }
    Ok(parsed)
}

/// Splits a URL whose hosts are a list: the text before them, the hosts, and the text behind them. `None` if it
/// has another scheme.
fn hosts_in(text: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let schemes = ["redis-sentinel", "rediss-sentinel", "redis-cluster", "rediss-cluster"];
    if !schemes.contains(&scheme.to_ascii_lowercase().as_str()) {
        return None;
    }
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let begin = text.len() - rest.len() + authority.len() - hosts.len();
    let (before, rest) = text.split_at(begin);
    let (hosts, behind) = rest.split_at(hosts.len());
    Some((before, hosts, behind))
}

fn parse_several_hosts(before: &str, hosts: &str, behind: &str) -> Result<StoreUrl> {
    // The parser of URLs knows one host only.
    let Ok(url) = Url::parse(&format!("{before}hosts{behind}")) else {
        return Err(configuration(format!("the store URL is malformed: {EXPECTED}")));
    };
    check_parts(&url)?;
    let (secure, kind) = url.scheme().split_once('-').unwrap_or_default();
    let is_tls = secure == "rediss";
    if kind == "cluster" {
        parse_redis_cluster(&url, hosts, is_tls)
    } else {
        parse_redis_sentinel(&url, hosts, is_tls)
    }
}

/// Reads a list of hosts.
fn hosts_and_ports(hosts: &str, default_port: u16) -> Result<Vec<(String, u16)>> {
    let read = |host: &str| {
        // The scheme is one without a port of its own.
        let url = Url::parse(&format!("redis://{host}")).ok();
        let url = url.filter(|url| has_host(url) && url.path().is_empty());
        let url = url.ok_or_else(|| configuration(format!("{host:?} is not a host: {EXPECTED}")))?;
        Ok((host_of(&url)?, url.port().unwrap_or(default_port)))
    };
    hosts.split(',').map(read).collect()
}

fn parse_redis_cluster(url: &Url, hosts: &str, is_tls: bool) -> Result<StoreUrl> {
    let nodes = hosts_and_ports(hosts, REDIS_PORT)?;
    let nodes = nodes.into_iter().map(|(host, port)| Address::Tcp { host, port }).collect();
    let mut options = RedisOptions::new(Address::Cluster { nodes });
    let common = read_redis_options(url, &mut options)?;
    refuse_other_options(url)?;
    read_database(url, url.path().trim_start_matches('/'), &mut options)?;
    if options.database != 0 {
        let message = format!("option \"db\" is {}: a Redis Cluster has database 0 only", options.database);
        return Err(configuration(message));
    }
    if is_tls {
        let hosts = match &options.address {
            Address::Cluster { nodes } => nodes.as_slice(),
            _ => &[],
        };
        options.tls = Some(Tls::new(
            &options.tls_options,
            hosts.iter().filter_map(|node| Some(node.host_and_port()?.0)),
        )?);
    }
    let parsed = StoreUrl { store: StoreOptions::Redis(Box::new(options)), common };
    if is_tls { Ok(parsed) } else { without_tls(parsed) }
}

fn parse_redis_sentinel(url: &Url, hosts: &str, is_tls: bool) -> Result<StoreUrl> {
    let sentinels = hosts_and_ports(hosts, SENTINEL_PORT)?;
    let sentinels = sentinels.into_iter().map(|(host, port)| Address::Sentinel { host, port }).collect();
    let path = url.path().trim_start_matches('/');
    let (service, database) = path.split_once('/').unwrap_or((path, ""));
    let service = decode("name of the master", service)?;
    if service.is_empty() {
        return Err(configuration(format!("the store URL lacks the name of the master: {EXPECTED}")));
    }
    let mut options = RedisOptions::new(Address::Master { service, sentinels });
    let common = read_redis_options(url, &mut options)?;
    read_database(url, database, &mut options)?;
    let sentinels_speak_tls = options.sentinel_ssl.unwrap_or(is_tls);
    if is_tls || sentinels_speak_tls {
        let hosts = match &options.address {
            Address::Master { sentinels, .. } if sentinels_speak_tls => sentinels.as_slice(),
            _ => &[],
        };
        let hosts = hosts.iter().filter_map(|sentinel| Some(sentinel.host_and_port()?.0));
        let tls = Tls::new(&options.tls_options, hosts)?;
        options.sentinel_tls = sentinels_speak_tls.then(|| tls.clone());
        options.tls = is_tls.then_some(tls);
    }
    let parsed = StoreUrl { store: StoreOptions::Redis(Box::new(options)), common };
    if is_tls || sentinels_speak_tls { Ok(parsed) } else { without_tls(parsed) }
}

/// Refuses TLS options in a URL without TLS, because the program would believe that the connection is
/// encrypted.
fn without_tls(parsed: StoreUrl) -> Result<StoreUrl> {
    match &parsed.store {
        StoreOptions::Redis(options) if options.tls_options.is_set() => Err(configuration(
            "the store URL has options for TLS (ssl_…, tls_server_name), but is not rediss:// (in Python: ssl=True)",
        )),
        _ => Ok(parsed),
    }
}

fn parse_redis_tcp(url: &Url) -> Result<StoreUrl> {
    if !url.has_authority() {
        return Err(configuration("the host is missing: expected redis://host:port/db"));
    }
    let host = if has_host(url) { host_of(url)? } else { "127.0.0.1".to_owned() };
    let mut options = RedisOptions::new(Address::Tcp { host, port: url.port().unwrap_or(REDIS_PORT) });
    let common = read_redis_options(url, &mut options)?;
    refuse_other_options(url)?;
    read_database(url, url.path().trim_start_matches('/'), &mut options)?;
    Ok(StoreUrl { store: StoreOptions::Redis(Box::new(options)), common })
}

/// Returns the host. An IPv6 address stands in brackets in a URL, and without them everywhere else. Hosts of
/// schemes that the URL standard does not list are percent-encoded.
fn host_of(url: &Url) -> Result<String> {
    decode("host", url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']'))
}

/// Refuses the options of another kind of Redis URL.
fn refuse_other_options(url: &Url) -> Result<()> {
    match url.query_pairs().find(|(name, _)| name.starts_with("sentinel_")) {
        Some((name, _)) => Err(configuration(format!("option {name:?} is for redis-sentinel:// only"))),
        None => Ok(()),
    }
}

/// Takes the number of the database from the path of a URL, where it may stand instead of in the options.
fn read_database(url: &Url, path: &str, options: &mut RedisOptions) -> Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    if url.query_pairs().any(|(name, _)| name == "db") {
        return Err(configuration("option \"db\" is given twice: in the path and as an option"));
    }
    options.database = path.parse().map_err(|_| {
        configuration(format!("the path of the store URL is {path:?}: expected a database number"))
    })?;
    Ok(())
}

fn parse_redis_unix(url: &Url) -> Result<StoreUrl> {
    if has_host(url) || !url.path().starts_with('/') {
        return Err(configuration(
            "redis+unix:// needs the absolute path of a socket, as in redis+unix:///run/redis.sock",
        ));
    }
    let mut options = RedisOptions::new(Address::Unix { path: decode_path(url.path()) });
    let common = read_redis_options(url, &mut options)?;
    refuse_other_options(url)?;
    Ok(StoreUrl { store: StoreOptions::Redis(Box::new(options)), common })
}

fn read_redis_options(url: &Url, options: &mut RedisOptions) -> Result<CommonOptions> {
    if !url.username().is_empty() {
        options.username = Some(decode("user name", url.username())?);
    }
    if let Some(password) = url.password() {
        options.password = Some(decode("password", password)?);
    }
    read_query("redis", url, redis::OPTIONS, options)
}

fn has_host(url: &Url) -> bool {
    url.host_str().is_some_and(|host| !host.is_empty())
}

fn decode(what: &str, text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| configuration(format!("the {what} of the store URL is not UTF-8")))?;
    Ok(decoded.into_owned())
}

/// Decodes a path, which may hold any bytes.
fn decode_path(text: &str) -> PathBuf {
    OsString::from_vec(percent_decode_str(text).collect()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error::ErrorKind;
    use crate::store::option::{COMMON, StoreOption};
    use std::time::Duration;

    fn parse(url: &str) -> Result<StoreOptions> {
        StoreUrl::parse(url).map(|url| url.store)
    }

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
        for url in ["memory:", "memory:?cell=atomic", "memory:?cell=mutex"] {
            assert!(matches!(parse(url), Ok(StoreOptions::Memory)), "{url}");
        }
        assert!(refusal("memory:?cell=spin").contains("\"spin\""));
        assert!(refusal("memory:?cel=mutex").contains("unknown option \"cel\""));
    }

    #[test]
    fn every_store_has_the_common_options() {
        for url in ["memory:", "memory:?cell=mutex", "shm:///tmp/x", "redis://h", "redis+unix:///tmp/x"] {
            let shown = |url: &str| StoreUrl::parse(url).unwrap().common.self_metrics;
            assert!(!shown(url), "{url}");
            let separator = if url.contains('?') { '&' } else { '?' };
            let url = format!("{url}{separator}self_metrics=true");
            assert!(shown(&url), "{url}");
            let message = refusal(&url.replace("=true", "=2"));
            assert!(message.contains("\"self_metrics\" is \"2\": expected true or false"), "{message}");
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
        assert_eq!((attached.start, attached.required), (Start::Attach, Some(false)));
        assert_eq!(attached.path.as_deref(), Some(std::path::Path::new("/m n")));
        assert!(shared("shm:///m?start=attach").required.is_none());
        assert!(refusal("shm:///m?start=attached").contains("continue, reset or attach"));
        assert!(refusal("shm:///m?required=false").contains("needs start=attach"));
        for mode in ["660", "0660", "0o660"] {
            assert_eq!(shared(&format!("shm:///m?mode={mode}")).mode, 0o660);
        }
        for mode in ["60", "0o1660", "rw", "888"] {
            assert!(
                refusal(&format!("shm:///m?mode={mode}")).contains("expected octal permissions"),
                "{mode}"
            );
        }
        assert_eq!((shared("shm:///m").mode, shared("shm:///m").size_limit), (0o600, 64 << 20));
    }

    #[test]
    fn mistakes_are_named_and_passwords_are_not() {
        assert!(refusal("redis://h?bogus=1").contains("unknown option \"bogus\""));
        assert!(refusal("redis://h/x").contains("path of the store URL is \"x\""));
        assert!(refusal("redis://%ff@h").contains("user name of the store URL is not UTF-8"));
        assert!(refusal("redis://h?connect_timeout=1&socket_connect_timeout=1").contains("given twice"));
        assert!(refusal("redis://h?db=x").contains("option \"db\" is \"x\""));
        assert!(refusal("redis://h?db=1&db=2").contains("given twice"));
        assert!(refusal("redis://h?flush_interval_ms=0").contains("flush_interval_ms"));
        assert!(refusal("redis://h?socket_timeout=nan").contains("socket_timeout"));
        assert!(refusal("redis://h?pipeline_threads=65").contains("from 1 to 64"));
        assert!(refusal("redis://h?ssl_cert_reqs=none").contains("rediss://"));
        assert!(
            refusal("rediss://h?ssl_ca_certs=/nowhere").contains("\"ssl_ca_certs\": /nowhere cannot be used")
        );
        assert!(refusal("rediss://h?ssl_keyfile=/nowhere&ssl_cert_reqs=none").contains("needs ssl_certfile"));
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

    /// Returns the rows of the options in the tables of the documentation.
    fn rows<T>(table: &[StoreOption<T>]) -> String {
        let row = |option: &StoreOption<T>| {
            let alias = option.alias.map(|alias| format!(", `{alias}`")).unwrap_or_default();
            let default = option.default.map(|default| format!("`{default}`")).unwrap_or_default();
            format!("| `{}`{alias} | {default} | {} | {} |\n", option.name, option.expected, option.help)
        };
        table.iter().map(row).collect()
    }

    fn file(path: &str) -> String {
        std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn the_tables_in_the_documentation_are_those_of_the_parser() {
        for (path, mark, own) in [
            ("docs/shared-memory.md", "shm", rows(shared_memory::OPTIONS)),
            ("docs/redis.md", "redis", rows(redis::OPTIONS)),
        ] {
            let text = file(path);
            let behind = text.split_once(&format!("<!-- options: {mark} -->\n")).unwrap().1;
            let table = behind.split_once("<!-- end of options -->").unwrap().0;
            let head = "| option | default | value | meaning |\n|---|---|---|---|\n";
            assert_eq!(table, format!("{head}{own}{}", rows(COMMON)), "{path}");
        }
    }

    #[test]
    fn the_header_and_the_python_classes_say_of_every_option_what_the_parser_knows() {
        /// Whether `text` has a sentence for each option of `table`, in its order.
        fn check<T>(path: &str, text: &str, table: &[StoreOption<T>]) {
            for option in table {
                let alias = option.alias.map(|alias| format!(" or `{alias}`")).unwrap_or_default();
                let default = option.default.map(|default| format!(" ({default})")).unwrap_or_default();
                let sentence = format!("`{}`{alias}{default}: {}", option.name, option.help);
                let is_there = text.to_lowercase().contains(&sentence.to_lowercase());
                assert!(is_there, "{path} lacks this description: {sentence}");
            }
        }
        /// One line without comment marks, so that lines may break anywhere.
        fn unwrapped(text: &str) -> String {
            text.split_whitespace().filter(|word| *word != "*").collect::<Vec<_>>().join(" ")
        }
        let path = "include/pytheus_backend_rs.h";
        let header = unwrapped(&file(path));
        check(path, &header, memory::OPTIONS);
        check(path, &header, shared_memory::OPTIONS);
        check(path, &header, redis::OPTIONS);
        check(path, &header, COMMON);
        let path = "bindings-python/pytheus_backend_rs/pytheus/backends.py";
        let classes = unwrapped(&file(path));
        check(path, &classes, shared_memory::OPTIONS);
        check(path, &classes, redis::OPTIONS);
        check(path, &classes, COMMON);
    }
}
