//! `serve`: the metrics over HTTP, for Prometheus to scrape.
//!
//! The command ends on SIGTERM or SIGINT. It keeps running while the store is unavailable.

use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};
use pytheus_backend_rs::{Exporter, ExporterOptions, process_families};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::activation;
use crate::dump::print;
use crate::failure::Failure;
use crate::store::{self, Presence};
use crate::with_common_options;

pub(crate) fn command() -> Command {
    let command = Command::new("serve")
        .about("Serve the metrics over HTTP, for Prometheus to scrape")
        .after_help(
            "It serves /metrics, a landing page at /, and /-/healthy, which says that it runs. A store that is not \
             there (yet) is 503 with the reason, until it is there. SIGTERM and SIGINT end it, with exit code 0.",
        );
    with_common_options(command).arg(
        Arg::new("allowed-host")
            .long("allowed-host")
            .value_name("HOST")
            .value_hint(ValueHint::Hostname)
            .action(ArgAction::Append)
            .help(
                "A host name by which clients may ask, without a port; others get 421. Repeat it for several. Default: \
                 every name",
            ),
    )
    .arg(
        Arg::new("created-samples")
            .long("created-samples")
            .action(ArgAction::SetTrue)
            .help(
                "Show in OpenMetrics when each counter, summary and histogram began, as samples \"_created\", which \
                 Prometheus stores as series of their own; protobuf shows it always",
            ),
    )
    .arg(
        Arg::new("process-metrics")
            .long("process-metrics")
            .action(ArgAction::SetTrue)
            .help("Show this process too: its processor time, memory and descriptors, as pytheus_side_car_process_…"),
    )
    .arg(
        Arg::new("listen")
            .long("listen")
            .short('l')
            .value_name("ADDR")
            .value_hint(ValueHint::Other)
            .default_value("127.0.0.1:9464")
            .value_parser(parse_address)
            .help(
                "Where to serve: 127.0.0.1:9464, [::1]:9464, localhost:9464, or :9464 for every IPv4 address of the \
                 machine; port 0 is a free one, which is printed. A socket that systemd passes is used instead",
            ),
    )
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let listener = activation::listener()?;
    // Before anything else starts, so that an early signal ends the command cleanly too.
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
    let backend = store::open(matches, Presence::Awaited)?;
    if matches.get_flag("process-metrics") {
        backend.on_collect(|| process_families("pytheus_side_car"))?;
    }
    let (address, port) = matches.get_one("listen").cloned().unwrap_or_default();
    let allowed_hosts = matches.get_many("allowed-host").into_iter().flatten().cloned().collect();
    let created_samples = matches.get_flag("created-samples");
    let options = ExporterOptions { address, port, allowed_hosts, created_samples, ..Default::default() };
    let exporter = match listener {
        Some(listener) => Exporter::start_on(&backend, listener, options)?,
        None => Exporter::start(&backend, options)?,
    };
    // A closed stdout (`Break`) does not keep the command from serving.
    let _ = print(&format!("serving {} on http://{}/metrics\n", store::shown(matches), exporter.address()))?;
    signals.forever().next();
    exporter.stop();
    Ok(backend.close()?)
}

/// Splits `HOST:PORT`.
fn parse_address(text: &str) -> Result<(String, u16), String> {
    let expected = || "expected HOST:PORT, as in 127.0.0.1:9464, [::1]:9464 or :9464".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
    let port = port.parse().map_err(|_| expected())?;
    let is_bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    match host {
        _ if is_bare_ipv6 => Err(expected()),
        "" => Ok(("0.0.0.0".to_owned(), port)),
        host => Ok((host.to_owned(), port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let parsed = |text: &str| parse_address(text).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(parsed("127.0.0.1:9464").unwrap(), "127.0.0.1 9464");
        assert_eq!(parsed("[::1]:0").unwrap(), "[::1] 0");
        assert_eq!(parsed("localhost:80").unwrap(), "localhost 80");
        assert_eq!(parsed(":9464").unwrap(), "0.0.0.0 9464");
        for bad in ["", "9464", "127.0.0.1", "host:", "host:x", "host:65536", "::1:9464", "host:-1"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
