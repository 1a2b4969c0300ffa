//! `serve`: the metrics over HTTP, for Prometheus to scrape.
//!
//! The command ends on SIGTERM or SIGINT, and opens the store again on SIGHUP. It keeps running while the store is
//! unavailable.

use std::io;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use pytheus_backend_rs::{Backend, Exporter, ExporterOptions, process_families};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::activation;
use crate::dump::print;
use crate::failure::Failure;
use crate::listen::{Place, Socket};
use crate::store::{self, Presence};
use crate::web_config::WebConfig;
use crate::with_common_options;

pub(crate) fn command() -> Command {
    let command = Command::new("serve")
        .about("Serve the metrics over HTTP, for Prometheus to scrape")
        .after_help(
            "It serves /metrics, a landing page at /, /-/healthy, which says that it runs, and /-/ready, which says \
             that the store can be read. A store that is not there (yet) is 503 with the reason, until it is there. \
             SIGHUP reads the web configuration and opens the store again, with the certificates that are now in their \
             files; no scrape is refused meanwhile. SIGTERM and SIGINT end it, with exit code 0.",
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
            .value_parser(Place::parse)
            .help(
                "Where to serve: 127.0.0.1:9464, [::1]:9464, localhost:9464, or :9464 for every IPv4 address of the \
                 machine; port 0 is a free one, which is printed. unix:/path is a Unix socket, which replaces one that \
                 no process serves. A socket that systemd passes is used instead",
            ),
    )
    .arg(
        Arg::new("socket-mode")
            .long("socket-mode")
            .value_name("MODE")
            .value_hint(ValueHint::Other)
            .default_value("0660")
            .value_parser(parse_mode)
            .help("The permissions of the Unix socket, in octal digits: who may write to it may connect"),
    )
    .arg(
        Arg::new("web-config")
            .long("web.config.file")
            .value_name("FILE")
            .value_hint(ValueHint::FilePath)
            .value_parser(value_parser!(PathBuf))
            .help(
                "TLS and basic authentication, in the format of the web configuration of Prometheus' exporters: \
                 tls_server_config and basic_auth_users",
            ),
    )
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let activated = activation::listener()?;
    // Before anything else starts, so that an early signal ends the command cleanly too.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
    let socket = activated.map_or_else(|| listen(matches), |listener| Ok(listener.into()))?;
    let mut service = Service::start(matches, &socket)?;
    // A closed stdout (`Break`) does not keep the command from serving.
    let _ = print(&format!("serving {} on {}\n", store::shown(matches), socket.shown(service.is_tls)))?;
    for signal in signals.forever() {
        if signal != SIGHUP {
            break;
        }
        match Service::start(matches, &socket) {
            Ok(next) => {
                if let Err(failure) = std::mem::replace(&mut service, next).end() {
                    failure.but("the store is open again").tell(&mut io::stderr());
                }
                log::info!("the store was opened again");
            }
            Err(failure) => failure.but("what is open stays open").tell(&mut io::stderr()),
        }
    }
    drop(socket);
    service.end()
}

/// An open store and what serves it.
struct Service {
    backend: Backend,
    exporter: Exporter,
    is_tls: bool,
}

impl Service {
    /// Opens the store and serves it on a copy of the listening socket. Another service may still serve there.
    fn start(matches: &ArgMatches, socket: &Socket) -> Result<Self, Failure> {
        let backend = store::open(matches, Presence::Awaited)?;
        if matches.get_flag("process-metrics") {
            backend.on_collect(|| process_families("pytheus_side_car"))?;
        }
        let allowed_hosts = matches.get_many("allowed-host").into_iter().flatten().cloned().collect();
        let created_samples = matches.get_flag("created-samples");
        let web = matches.get_one::<PathBuf>("web-config").map(|path| WebConfig::read(path)).transpose()?;
        let WebConfig { tls, guard } = web.unwrap_or_default();
        let is_tls = tls.is_some();
        let options = ExporterOptions { allowed_hosts, created_samples, tls, guard, ..Default::default() };
        let copy = socket.try_clone();
        let copy =
            copy.map_err(|error| Failure::failed(format!("cannot copy the listening socket: {error}")))?;
        let exporter = Exporter::start_on(&backend, copy, options)?;
        Ok(Self { backend, exporter, is_tls })
    }

    /// Answers the requests in flight, and closes the store.
    fn end(self) -> Result<(), Failure> {
        self.exporter.stop();
        Ok(self.backend.close()?)
    }
}

fn listen(matches: &ArgMatches) -> Result<Socket, Failure> {
    match (matches.get_one("listen"), matches.get_one("socket-mode")) {
        (Some(place), Some(mode)) => Socket::open(place, *mode),
        _ => Err(Failure::usage("no address was given: expected --listen")),
    }
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "expected octal digits, as in 0660".to_owned())
}
