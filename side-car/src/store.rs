//! The stores that a command reads: `--store URL`, or the URLs in the environment variable. Several are read as one.
//!
//! A side-car attaches to a metrics file and never creates one. A long-running command may start before its
//! store exists.

use clap::{Arg, ArgAction, ArgMatches, ValueHint};
use pytheus_backend_rs::Backend;
use url::Url;

use crate::failure::Failure;

/// The environment variable with the store URLs, used if there is no `--store`.
const VARIABLE: &str = "PYTHEUS_BACKEND_RS_STORE";

/// Whether the store must exist when the command starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    Awaited,
}

pub(crate) fn argument() -> Arg {
    let argument = Arg::new("store").long("store").short('s').value_name("URL").action(ArgAction::Append);
    argument.value_hint(ValueHint::Other).help(
        "Where the values are: the path of a metrics file, or shm:///path, redis://[user[:password]@]host[:port][/db], or \
         redis+unix:///path of a socket, with options such as key_prefix in the query. Repeat it to read several \
         stores as one, if no two have a metric family of one name. Default: what the environment variable \
         PYTHEUS_BACKEND_RS_STORE says, one URL or several with spaces between them; it is the place for a URL with a \
         password, since everybody on the machine can see the arguments of a command",
    )
}

/// Opens the stores that the command line or the environment names.
pub(crate) fn open(matches: &ArgMatches, presence: Presence) -> Result<Backend, Failure> {
    let stores: Vec<(String, String)> = given(matches)?
        .iter()
        .map(|given| Ok((shown_url(given), side_car_url(given, presence)?)))
        .collect::<Result<_, Failure>>()?;
    Ok(match &stores[..] {
        [(_, url)] => Backend::open(url)?,
        _ => Backend::open_together(&stores)?,
    })
}

/// Returns the store URLs for display, without users, passwords and options.
pub(crate) fn shown(matches: &ArgMatches) -> String {
    let given = given(matches).unwrap_or_default();
    given.iter().map(|given| shown_url(given)).collect::<Vec<_>>().join(" and ")
}

fn shown_url(given: &str) -> String {
    let Ok(mut url) = Url::parse(&url_of(given)) else {
        // The parser knows no URL with several hosts, as of Sentinel and Cluster.
        let (scheme, rest) = given.split_once("://").unwrap_or_default();
        let hosts = rest.rsplit('@').next().unwrap_or_default().split(['?', '#']).next().unwrap_or_default();
        return format!("{scheme}://{hosts}");
    };
    url.set_query(None);
    url.set_fragment(None);
    // Fails only for a URL that cannot contain a user or password.
    let _ = url.set_username("").and(url.set_password(None));
    url.to_string()
}

fn given(matches: &ArgMatches) -> Result<Vec<String>, Failure> {
    if let Some(given) = matches.get_many::<String>("store") {
        return Ok(given.cloned().collect());
    }
    match std::env::var(VARIABLE) {
        Ok(given) if !given.trim().is_empty() => Ok(given.split_whitespace().map(str::to_owned).collect()),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::usage(format!("the environment variable {VARIABLE} is no text")))
        }
        _ => Err(Failure::usage(format!(
            "no store was given: expected --store URL, or a URL in the environment variable {VARIABLE}; see --help"
        ))),
    }
}

/// Returns the URL of a store that was given as a URL or as the path of a metrics file. A path has no colon before its
/// first slash.
fn url_of(given: &str) -> String {
    let is_path = !given.split('/').next().unwrap_or_default().contains(':');
    match (std::path::absolute(given), Url::parse("shm:///")) {
        (Ok(path), Ok(mut url)) if is_path && !given.is_empty() => {
            url.set_path(&path.to_string_lossy());
            url.into()
        }
        _ => given.to_owned(),
    }
}

/// Returns the URL with which the side-car opens the store.
fn side_car_url(given: &str, presence: Presence) -> Result<String, Failure> {
    // The engine reports why the text is not a URL.
    let Ok(mut url) = Url::parse(&url_of(given)) else { return Ok(given.to_owned()) };
    let option =
        |name: &str| url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
    let (start, required, read_only) = (option("start"), option("required"), option("read_only"));
    if option("self_metrics").is_some() {
        // The side-car's own work must not appear among the statistics of the service.
        let kept: Vec<(String, String)> =
            url.query_pairs().into_owned().filter(|(name, _)| name != "self_metrics").collect();
        url.set_query(None);
        if !kept.is_empty() {
            url.query_pairs_mut().extend_pairs(kept);
        }
    }
    match url.scheme() {
        "memory" => {
            return Err(Failure::usage(
                "a memory: store is inside the process that counts, and cannot be looked at from outside: \
                 expected shm:///path or redis://host:port/db",
            ));
        }
        "shm" => match start.as_deref() {
            None => drop(url.query_pairs_mut().append_pair("start", "attach")),
            Some("continue" | "reset") => {
                return Err(Failure::usage(
                    "option \"start\" of the store URL would make or replace the metrics file, which a side-car \
                     only reads: leave it out",
                ));
            }
            Some(_) => {}
        },
        // The Redis user of a side-car may lack the permission to write.
        _ if read_only.is_none() => drop(url.query_pairs_mut().append_pair("read_only", "true")),
        _ => {}
    }
    if presence == Presence::Awaited && required.is_none() {
        url.query_pairs_mut().append_pair("required", "false");
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(given: &str, presence: Presence) -> String {
        side_car_url(given, presence).unwrap()
    }

    #[test]
    fn a_path_is_that_of_a_metrics_file() {
        assert_eq!(
            url("/dev/shm/my metrics?#", Presence::Required),
            "shm:///dev/shm/my%20metrics%3F%23?start=attach"
        );
        let here = std::env::current_dir().unwrap();
        assert_eq!(url_of("metrics.shm"), format!("shm://{}/metrics.shm", here.display()));
        for given in ["memory:", "redis://h", "shm:", "shm:///m", "", "C:/m"] {
            assert_eq!(url_of(given), given);
        }
    }

    #[test]
    fn a_side_car_adds_nothing_to_the_statistics_of_the_service() {
        let given = "redis://h/2?self_metrics=true&password=a%26b";
        assert_eq!(url(given, Presence::Required), "redis://h/2?password=a%26b&read_only=true");
        assert_eq!(url("shm:///m?self_metrics=true", Presence::Required), "shm:///m?start=attach");
    }

    #[test]
    fn a_metrics_file_is_attached_to() {
        assert_eq!(url("shm:///m", Presence::Required), "shm:///m?start=attach");
        assert_eq!(url("shm:///m", Presence::Awaited), "shm:///m?start=attach&required=false");
        assert_eq!(url("shm:///m?start=attach", Presence::Required), "shm:///m?start=attach");
        for start in ["continue", "reset"] {
            let given = format!("shm:///m?start={start}");
            assert_eq!(side_car_url(&given, Presence::Required).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn a_server_is_awaited_unless_the_url_says_otherwise() {
        assert_eq!(url("redis://u:p@h/1", Presence::Required), "redis://u:p@h/1?read_only=true");
        assert_eq!(
            url("redis://h?key_prefix=a%20b", Presence::Awaited),
            "redis://h?key_prefix=a%20b&read_only=true&required=false"
        );
        assert_eq!(
            url("redis://h?required=true", Presence::Awaited),
            "redis://h?required=true&read_only=true"
        );
    }

    #[test]
    fn a_url_is_shown_without_user_password_and_options() {
        assert_eq!(shown_url("redis://u:p%40@h:1/2?key_prefix=a"), "redis://h:1/2");
        assert_eq!(shown_url("redis-cluster://u:p@a:1,b:2?key_prefix=c"), "redis-cluster://a:1,b:2");
        assert_eq!(shown_url("redis-sentinel://a:1,b:2/master"), "redis-sentinel://a:1,b:2/master");
        assert_eq!(shown_url("shm:///m"), "shm:///m");
    }

    #[test]
    fn what_cannot_be_seen_from_outside_is_refused() {
        assert_eq!(side_car_url("memory:", Presence::Required).unwrap_err().exit_code(), 2);
    }
}
