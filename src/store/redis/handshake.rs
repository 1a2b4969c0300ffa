//! Checks, when a store is opened, that the server can do what counting needs.
//!
//! A server that would refuse every batch is an error, which names what to change. A server that may lose values
//! later gets a warning in the log.

use std::time::Instant;

use redis::Value;

use super::batch;
use super::connection::{SMALL, command, refused};
use super::options::RedisOptions;
use super::reply::text;
use super::route::Route;
use super::socket::Terms;
use crate::model::error::{Error, ErrorKind, Result};

/// The oldest version of Redis that the tests run with.
const OLDEST_TESTED: (u32, u32) = (6, 2);

/// Checks the server of a new route, and logs what may lose values. Fails if counting is impossible. A
/// program that only reads is spared the checks.
pub(crate) fn check(route: &mut Route, options: &RedisOptions, deadline: Instant) -> Result<()> {
    if options.read_only {
        return Ok(());
    }
    let mut commands: Vec<_> =
        ["server", "memory", "replication"].iter().map(|section| command("INFO", &[section])).collect();
    // Run the script here, so that the program sees the error if the user may not run scripts.
    commands.extend([batch::load_script(), batch::try_script()]);
    let mut replies =
        route.exchange(options, &commands, Terms { deadline, memory: SMALL, idle: &mut || {} })?.into_iter();
    let mut info = String::new();
    for reply in replies.by_ref().take(3) {
        // The user may lack permission for INFO. Then nothing is known, and nothing is said.
        info.push_str(&text(reply).unwrap_or_default());
        info.push('\n');
    }
    let info = Info(&info);
    let address = &options.address;
    if let Some(master) = info.master() {
        return Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "{address} is a replica of {master}, and counting needs a master: open that one, or set \
                 read_only to read only"
            ),
        ));
    }
    if info.is_cluster() && !options.is_cluster() {
        return Err(Error::new(
            ErrorKind::Unavailable,
            format!("{address} is a node of a cluster: use redis-cluster:// (in Python: cluster=True)"),
        ));
    }
    for reply in replies {
        if let Value::ServerError(error) = reply {
            return Err(refused(address, &error));
        }
    }
    let silence = (options.read_from_replicas && info.value("role").is_none()).then(|| {
        "does not let this user call INFO replication, so scrapes do not read from replicas; allow it, or unset \
         read_from_replicas"
            .to_owned()
    });
    for warning in [info.old_version(), info.eviction(), silence].into_iter().flatten() {
        log::warn!("{address} {warning}");
    }
    Ok(())
}

/// The text of INFO: lines of names and values.
struct Info<'text>(&'text str);

impl Info<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    fn is_cluster(&self) -> bool {
        // Valkey has the second name.
        ["redis_mode", "server_mode"].iter().any(|name| self.value(name) == Some("cluster"))
    }

    /// Returns the place of the master if the server is a replica.
    fn master(&self) -> Option<String> {
        let is_replica = self.value("role") == Some("slave");
        let part = |name| self.value(name).unwrap_or("?");
        is_replica.then(|| format!("{}:{}", part("master_host"), part("master_port")))
    }

    /// Returns a warning if the version is older than those that the tests run with.
    fn old_version(&self) -> Option<String> {
        let version = self.value("redis_version")?;
        let mut parts = version.split('.').map_while(|part| part.parse().ok());
        let number = (parts.next()?, parts.next()?);
        let (major, minor) = OLDEST_TESTED;
        (number < OLDEST_TESTED)
            .then(|| format!("has version {version}; the oldest that is tested is {major}.{minor}"))
    }

    /// Returns a warning if the server may evict keys.
    fn eviction(&self) -> Option<String> {
        let policy = self.value("maxmemory_policy")?;
        let is_bounded = self.value("maxmemory").is_some_and(|bytes| bytes != "0");
        (is_bounded && policy != "noeviction").then(|| {
            format!(
                "has maxmemory-policy {policy}: when its memory is full it may evict metric families, whose \
                 counters then begin at 0; set maxmemory-policy to noeviction"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_that_are_not_tested_get_a_warning() {
        for (version, is_old) in
            [("6.0.16", true), ("5.0.14", true), ("6.2.14", false), ("7.0.15", false), ("10.0", false)]
        {
            let text = format!("redis_mode:standalone\r\nredis_version:{version}\r\n");
            assert_eq!(Info(&text).old_version().is_some(), is_old, "{version}");
        }
        assert_eq!(Info("redis_version:unstable\r\n").old_version(), None);
    }
}
