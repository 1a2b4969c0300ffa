//! `push`: sends the metrics to a Pushgateway once, for jobs that end before Prometheus would scrape them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use percent_encoding::percent_decode_str;
use pytheus_backend_rs::{TEXT_CONTENT_TYPE, render_text};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use url::Url;

use crate::failure::Failure;
use crate::store::{self, Presence};
use crate::{text, with_common_options};

/// The environment variable with the URL of the gateway, used if there is no `--gateway`.
const VARIABLE: &str = "PYTHEUS_BACKEND_RS_GATEWAY";
/// How long the gateway may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn command() -> Command {
    with_common_options(
        Command::new("push")
            .about("Send the metrics to a Pushgateway once, for jobs that end before Prometheus scrapes them"),
    )
    .after_help("It replaces all metrics that the gateway has of this job and these labels (PUT).")
    .arg(
        Arg::new("gateway").long("gateway").short('g').value_name("URL").value_hint(ValueHint::Url).help(
            "The gateway: http://host:9091 or https://host. Default: what the environment variable \
             PYTHEUS_BACKEND_RS_GATEWAY says, which is the place for a URL with user:password@ before the host",
        ),
    )
    .arg(
        Arg::new("job")
            .long("job")
            .short('j')
            .value_name("NAME")
            .value_hint(ValueHint::Other)
            .required(true)
            .help("The label \"job\" of the metrics in the gateway"),
    )
    .arg(
        Arg::new("label")
            .long("label")
            .short('l')
            .value_name("NAME=VALUE")
            .value_hint(ValueHint::Other)
            .action(ArgAction::Append)
            .value_parser(parse_label)
            .help("A further label, such as instance=web-1. Repeat it for several"),
    )
    .arg(
        Arg::new("ca-certs")
            .long("ca-certs")
            .value_name("FILE")
            .value_hint(ValueHint::FilePath)
            .value_parser(value_parser!(PathBuf))
            .help("Certificates to trust, instead of those of the system"),
    )
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let gateway = Gateway::of(matches)?;
    let agent = agent(&gateway, matches.get_one("ca-certs"))?;
    let snapshot = store::open(matches, Presence::Required)?.collect(None)?;
    let mut request = agent.put(gateway.url.as_str()).header("content-type", TEXT_CONTENT_TYPE);
    if let Some(credentials) = &gateway.credentials {
        request = request.header("authorization", format!("Basic {}", STANDARD.encode(credentials)));
    }
    let failed = |reason: &str| Failure::failed(format!("cannot push to {}: {reason}", gateway.url));
    let mut answer =
        request.send(render_text(&snapshot).as_bytes()).map_err(|error| failed(&error.to_string()))?;
    if answer.status().is_success() {
        return Ok(());
    }
    let text = answer.body_mut().read_to_string().unwrap_or_default();
    Err(failed(&format!("it answers {}: {}", answer.status(), text.lines().next().unwrap_or_default())))
}

/// Where the metrics go.
struct Gateway {
    /// With the labels, and without a user and a password.
    url: Url,
    /// `user:password`.
    credentials: Option<Vec<u8>>,
}

impl Gateway {
    fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        let given = text(matches, "gateway").map(str::to_owned).or_else(|| std::env::var(VARIABLE).ok());
        let given = given.filter(|given| !given.is_empty()).ok_or_else(|| {
            Failure::usage(format!(
                "no gateway was given: expected --gateway URL, or a URL in the environment variable {VARIABLE}"
            ))
        })?;
        let job = text(matches, "job").unwrap_or_default().to_owned();
        let labels = matches.get_many::<(String, String)>("label").into_iter().flatten().cloned();
        Self::new(&given, [("job".to_owned(), job)].into_iter().chain(labels))
            .ok_or_else(|| Failure::usage("the gateway is no URL: expected http://host:9091 or https://host"))
    }

    fn new(given: &str, labels: impl Iterator<Item = (String, String)>) -> Option<Self> {
        let mut url = Url::parse(given).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let has_credentials = !url.username().is_empty() || url.password().is_some();
        let credentials = has_credentials.then(|| {
            let password = url.password().unwrap_or_default();
            percent_decode_str(&format!("{}:{password}", url.username())).collect()
        });
        url.set_username("").and_then(|()| url.set_password(None)).ok()?;
        url.set_query(None);
        url.set_fragment(None);
        let mut path = url.path_segments_mut().ok()?;
        path.pop_if_empty().push("metrics");
        for (name, value) in labels {
            // A server may resolve these segments, or split them at the slash. A URL leaves the characters out.
            if matches!(value.as_str(), "" | "." | "..") || value.contains(['/', '\t', '\n', '\r']) {
                let encoded = URL_SAFE_NO_PAD.encode(&value);
                let encoded = if encoded.is_empty() { "=".to_owned() } else { encoded };
                path.push(&format!("{name}@base64")).push(&encoded);
            } else {
                path.push(&name).push(&value);
            }
        }
        drop(path);
        Some(Self { url, credentials })
    }
}

fn agent(gateway: &Gateway, ca_certs: Option<&PathBuf>) -> Result<Agent, Failure> {
    let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()));
    if gateway.url.scheme() == "https" {
        let certificates =
            match ca_certs {
                Some(file) => CertificateDer::pem_file_iter(file)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|error| error.to_string())
                    .and_then(|found| {
                        if found.is_empty() { Err("it has no certificate".to_owned()) } else { Ok(found) }
                    })
                    .map_err(|error| Failure::usage(format!("--ca-certs {}: {error}", file.display())))?,
                None => rustls_native_certs::load_native_certs().certs,
            };
        let roots = certificates.iter().map(|certificate| Certificate::from_der(certificate).to_owned());
        tls = tls.root_certs(RootCerts::new_with_certs(&roots.collect::<Vec<_>>()));
    }
    let config = Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .tls_config(tls.build());
    Ok(config.build().into())
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or_default();
    let is_start = |first: char| first.is_ascii_alphabetic() || first == '_';
    let is_name = name.starts_with(is_start) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match is_name && name != "job" {
        true => Ok((name.to_owned(), value.to_owned())),
        false => Err("expected NAME=VALUE, and a name of a label other than \"job\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_are_the_path() {
        let url = |given: &str, labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
            Gateway::new(given, labels).map(|gateway| gateway.url.to_string()).unwrap()
        };
        assert_eq!(url("http://h:9091", &[("job", "a b")]), "http://h:9091/metrics/job/a%20b");
        assert_eq!(url("https://h/base/?x#y", &[("job", "ü%")]), "https://h/base/metrics/job/%C3%BC%25");
        assert_eq!(url("http://h", &[("job", "a\tb\n")]), "http://h/metrics/job@base64/YQliCg");
        assert_eq!(
            url("http://h", &[("job", "x"), ("path", "/a?"), ("up", ".."), ("none", "")]),
            "http://h/metrics/job/x/path@base64/L2E_/up@base64/Li4/none@base64/="
        );
    }

    #[test]
    fn a_password_is_taken_out_of_the_url() {
        let gateway = Gateway::new("https://ann:p%40ss@h", std::iter::empty()).unwrap();
        assert_eq!(gateway.url.as_str(), "https://h/metrics");
        assert_eq!(gateway.credentials.unwrap(), b"ann:p@ss");
        let gateway = Gateway::new("https://:secret@h", std::iter::empty()).unwrap();
        assert_eq!(
            (gateway.url.as_str(), gateway.credentials.unwrap()),
            ("https://h/metrics", b":secret".to_vec())
        );
        for bad in ["h:9091", "ftp://h", "", "//h"] {
            assert!(Gateway::new(bad, std::iter::empty()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_label_has_a_name_and_a_value() {
        assert_eq!(parse_label("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        for bad in ["", "a", "=b", "1a=b", "job=b", "a-b=c"] {
            assert!(parse_label(bad).is_err(), "{bad}");
        }
    }
}
