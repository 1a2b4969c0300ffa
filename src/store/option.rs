//! How the options of a store URL are declared and read.
//!
//! Each store declares its options once, in a table of [`StoreOption`]s. The parser, the defaults and the
//! error texts come from the tables, and tests compare the documentation with them. No error repeats the
//! whole URL, because a URL may hold a password.

use std::time::Duration;

use url::Url;

use crate::model::error::{Error, ErrorKind, Result};
use crate::model::series_ttl::SeriesTtl;

/// How similar a known name must be to be suggested for an unknown one, from 0 to 1.
const NEAR_MISS: f64 = 0.7;

/// One option of a store URL.
#[derive(Debug)]
pub(crate) struct StoreOption<T: 'static> {
    pub(crate) name: &'static str,
    /// A second name that means the same.
    pub(crate) alias: Option<&'static str>,
    /// Type, unit and range of a value, as an error message names them after "expected".
    pub(crate) expected: &'static str,
    /// The value if the URL gives none. `None` leaves the option unset.
    pub(crate) default: Option<&'static str>,
    /// What the option does, for the documentation.
    #[cfg_attr(not(test), expect(dead_code, reason = "the documentation is held against it by tests"))]
    pub(crate) help: &'static str,
    /// Stores the value in the options of the store. Returns `None` if the value is not as `expected`.
    pub(crate) set: fn(&mut T, &str) -> Option<()>,
}

/// The options that all stores have.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommonOptions {
    /// Whether the statistics of the backend are metrics of the backend, too.
    pub(crate) self_metrics: bool,
    /// After which time without use series end, in families that do not say so themselves.
    pub(crate) series_ttl: Option<SeriesTtl>,
}

/// Declares the options that all stores have.
pub(crate) const COMMON: &[StoreOption<CommonOptions>] = &[
    StoreOption {
        name: "self_metrics",
        alias: None,
        expected: "true or false",
        default: Some("false"),
        help: "show the statistics of the backend as metrics of the backend, too",
        set: |options, value| boolean(value).map(|shown| options.self_metrics = shown),
    },
    StoreOption {
        name: "series_ttl",
        alias: None,
        expected: SeriesTtl::EXPECTED,
        default: None,
        help: "end a series when no process has used it for so many seconds, unless its family says otherwise",
        set: |options, value| {
            let ttl = SeriesTtl::new(value.parse().ok()?).ok().filter(|ttl| *ttl != SeriesTtl::Never)?;
            options.series_ttl = Some(ttl);
            Some(())
        },
    },
];

/// Reads the query of `url`: first sets all defaults of `table` in `options`, then what the query says.
///
/// Returns the options that all stores have. Fails and names the option if one is unknown, is given twice, or
/// has a value that is not as `expected`.
pub(crate) fn read_query<T>(
    store: &str,
    url: &Url,
    table: &[StoreOption<T>],
    options: &mut T,
) -> Result<CommonOptions> {
    set_defaults(table, options);
    let mut common = CommonOptions::default();
    let mut seen = Vec::new();
    for (name, value) in url.query_pairs() {
        let known =
            apply(table, options, &name, &value).or_else(|| apply(COMMON, &mut common, &name, &value));
        let Some(known) = known else { return Err(unknown_option(store, &name, table)) };
        let known = known?;
        if seen.contains(&known) {
            return Err(configuration(format!("option {known:?} is given twice")));
        }
        seen.push(known);
    }
    Ok(common)
}

/// Sets the defaults of `table`. A test checks that each of them is a value that its option accepts.
pub(crate) fn set_defaults<T>(table: &[StoreOption<T>], options: &mut T) {
    for option in table {
        let _ = option.default.and_then(|default| (option.set)(options, default));
    }
}

/// Sets one option, and returns the name under which it is declared. `None` if `table` does not have it.
fn apply<T>(
    table: &[StoreOption<T>],
    options: &mut T,
    name: &str,
    value: &str,
) -> Option<Result<&'static str>> {
    let option = table.iter().find(|option| option.name == name || option.alias == Some(name))?;
    Some(
        (option.set)(options, value).map(|()| option.name).ok_or_else(|| {
            configuration(format!("option {name:?} is {value:?}: expected {}", option.expected))
        }),
    )
}

fn unknown_option<T>(store: &str, name: &str, table: &[StoreOption<T>]) -> Error {
    let known: Vec<&str> =
        table.iter().map(|option| option.name).chain(COMMON.iter().map(|option| option.name)).collect();
    let spellings = known.iter().copied().chain(table.iter().filter_map(|option| option.alias));
    let near = spellings
        .map(|spelling| (strsim::jaro_winkler(spelling, name), spelling))
        .filter(|(similarity, _)| *similarity > NEAR_MISS)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    configuration(match near {
        Some((_, near)) => {
            format!("unknown option {name:?} for the {store} store; did you mean {near:?}?")
        }
        None => {
            format!("unknown option {name:?} for the {store} store; its options are {}", known.join(", "))
        }
    })
}

/// Makes an error about a store URL.
pub(crate) fn configuration(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

/// Reads `true` or `false`, and the other usual spellings.
pub(crate) fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Reads a duration in seconds, from a millisecond to eleven days.
pub(crate) fn seconds(value: &str) -> Option<Duration> {
    let seconds = value.parse::<f64>().ok()?;
    (0.001..=1e6).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// Reads a whole number of at least 1 that fits 32 bits.
pub(crate) fn at_least_one(value: &str) -> Option<u64> {
    value.parse().ok().filter(|number| (1..=u64::from(u32::MAX)).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_suggested_and_a_far_one_gets_the_list() {
        let message = |name| unknown_option("redis", name, crate::store::redis::OPTIONS).message().to_owned();
        for (typo, meant) in [
            ("flush_intervall_ms", "flush_interval_ms"),
            ("expire", "expire_key_time"),
            ("keyprefix", "key_prefix"),
            ("conect_timeout", "connect_timeout"),
            ("pasword", "password"),
            ("selfmetrics", "self_metrics"),
            ("socket_connection_timeout", "socket_connect_timeout"),
        ] {
            let expected = format!("unknown option {typo:?} for the redis store; did you mean {meant:?}?");
            assert_eq!(message(typo), expected);
        }
        assert!(message("bogus").ends_with("series_ttl"), "{}", message("bogus"));
        assert!(message("bogus").contains("; its options are db, username, "), "{}", message("bogus"));
    }
}
