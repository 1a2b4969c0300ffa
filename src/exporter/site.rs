//! The pages of the exporter: the metrics, a landing page, and what probes ask for.
//!
//! This file handles paths, methods and pages, not sockets. The metrics come from the [thread that
//! scrapes](super::scrape), so the exporter's thread never waits for a store.

use bytes::Bytes;
use crossbeam_channel::Sender;
use http_body_util::Full;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HOST,
    HeaderMap, HeaderName, HeaderValue, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::uri::Authority;
use hyper::{Method, Response, StatusCode};
use tokio::sync::oneshot;

use super::crowd::Crowd;
use super::guard::{Guard, Question};
use super::options::ExporterOptions;
use super::scrape::{Answer, Request, Scrape, Wanted};
use crate::exposition::{Format, NameFilter, accepts_gzip};
use crate::model::error::{Error, ErrorKind};

pub(super) type Reply = Response<Full<Bytes>>;

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// The pages.
#[derive(Debug)]
pub(super) struct Site {
    scrapes: Sender<Request>,
    /// In lower case. Empty means every host.
    allowed_hosts: Vec<String>,
    guard: Option<Guard>,
    questions: Sender<Question>,
}

impl Site {
    /// Creates the pages. `scrapes` sends requests to the thread that scrapes, and `questions` to that of the guard.
    pub(super) fn new(
        scrapes: Sender<Request>,
        questions: Sender<Question>,
        options: &ExporterOptions,
    ) -> Self {
        let allowed_hosts = options.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { scrapes, allowed_hosts, guard: options.guard.clone(), questions }
    }

    /// Answers a request. HEAD gets the same answer as GET; hyper omits the body.
    pub(super) async fn answer<B>(&self, request: hyper::Request<B>, crowd: &Crowd) -> Reply {
        if !self.allows_host(&request) {
            let text = "this host name is not in allowed_hosts of the exporter\n".to_owned();
            return plain(StatusCode::MISDIRECTED_REQUEST, text);
        }
        if let Some(guard) = &self.guard {
            let authorization = request.headers().get(AUTHORIZATION).and_then(|header| header.to_str().ok());
            let verdict = match guard.known(authorization) {
                Some(is_allowed) => Ok(is_allowed),
                None => self.ask_guard(authorization.map(str::to_owned)).await,
            };
            match verdict {
                Ok(true) => {}
                Ok(false) => {
                    let reply = plain(StatusCode::UNAUTHORIZED, "unauthorized\n".to_owned());
                    return with(reply, WWW_AUTHENTICATE, "Basic");
                }
                Err(error) => return failure(&error),
            }
        }
        let path = request.uri().path();
        if !matches!(path, "/" | "/metrics" | "/metrics/" | "/-/healthy" | "/-/ready") {
            return plain(StatusCode::NOT_FOUND, "not found: the metrics are at /metrics\n".to_owned());
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let text = format!("{} is not allowed here: use GET or HEAD\n", request.method());
            return with(plain(StatusCode::METHOD_NOT_ALLOWED, text), ALLOW, "GET, HEAD");
        }
        match path {
            "/metrics" | "/metrics/" => self.metrics(&request, crowd).await,
            "/-/healthy" => plain(StatusCode::OK, "ok\n".to_owned()),
            "/-/ready" => self.ready().await,
            _ => reply(StatusCode::OK, HTML, Bytes::from_static(LANDING_PAGE.as_bytes())),
        }
    }

    /// Whether the request names an allowed host. In a DNS rebinding attack, a page in a browser reaches a
    /// server on loopback under the name of the attacker's site.
    fn allows_host<B>(&self, request: &hyper::Request<B>) -> bool {
        if self.allowed_hosts.is_empty() {
            return true;
        }
        let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let authority = request.uri().authority().map(Authority::as_str).or(header);
        let host = authority.and_then(|text| text.parse::<Authority>().ok());
        let host = host.map(|authority| authority.host().to_ascii_lowercase());
        host.is_some_and(|host| {
            let literal = host.trim_start_matches('[').trim_end_matches(']');
            self.allowed_hosts.iter().any(|allowed| *allowed == host || allowed == literal)
        })
    }

    async fn metrics<B>(&self, request: &hyper::Request<B>, crowd: &Crowd) -> Reply {
        if !crowd.admits_answer() {
            let message = "too many clients have not read their answers yet";
            return failure(&Error::new(ErrorKind::Unavailable, message));
        }
        let headers = request.headers();
        let wanted = Wanted {
            format: Format::negotiate(all_of(headers, &ACCEPT).as_deref()),
            names: request.uri().query().and_then(NameFilter::from_query),
            gzip: all_of(headers, &ACCEPT_ENCODING).is_some_and(|accepted| accepts_gzip(&accepted)),
        };
        self.scrape(wanted).await.map_or_else(|error| failure(&error), metrics)
    }

    /// Says whether the store can be read. The scrape that finds out shows no family.
    async fn ready(&self) -> Reply {
        let wanted = Wanted { format: Format::default(), names: Some(NameFilter::nothing()), gzip: false };
        let scrape = self.scrape(wanted).await;
        scrape.map_or_else(|error| failure(&error), |_| plain(StatusCode::OK, "ready\n".to_owned()))
    }

    /// Asks the thread that decides about requests.
    async fn ask_guard(&self, authorization: Option<String>) -> Result<bool, Error> {
        let unavailable = |message| Error::new(ErrorKind::Unavailable, message);
        let (answer, answers) = oneshot::channel();
        let question = Question { authorization, answer };
        // A queue without an end would keep a client with the right password waiting behind those that guess it.
        self.questions.try_send(question).map_err(|_| unavailable("too many clients wait to be let in"))?;
        answers.await.map_err(|_| unavailable("the exporter is stopping"))
    }

    async fn scrape(&self, wanted: Wanted) -> Answer {
        let (answer, answers) = oneshot::channel();
        // If the thread has ended, the request is dropped, and waiting for the answer fails.
        let _ = self.scrapes.send(Request { wanted, answer });
        let stopping = |_| Err(Error::new(ErrorKind::Unavailable, "the exporter is stopping"));
        answers.await.unwrap_or_else(stopping)
    }
}

fn metrics(scrape: Scrape) -> Reply {
    let response = reply(StatusCode::OK, &scrape.content_type, scrape.body);
    let response = with(response, VARY, "accept, accept-encoding");
    if scrape.is_gzipped { with(response, CONTENT_ENCODING, "gzip") } else { response }
}

/// Returns status 503 if the store cannot be read, because that may be temporary. Other errors are defects of
/// the exporter and get status 500.
fn failure(error: &Error) -> Reply {
    let status = match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Store => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    plain(status, format!("{error}\n"))
}

fn plain(status: StatusCode, text: String) -> Reply {
    reply(status, TEXT, Bytes::from(text))
}

fn reply(status: StatusCode, content_type: &str, body: Bytes) -> Reply {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let response = with(response, CONTENT_TYPE, content_type);
    let response = with(response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    with(response, CACHE_CONTROL, "no-store")
}

fn with(mut response: Reply, name: HeaderName, value: &str) -> Reply {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Joins all headers of this name into one list: in HTTP, repeated headers mean the same as one list.
fn all_of(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

const LANDING_PAGE: &str = concat!(
    r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>pytheus_backend_rs exporter</title>
<style>
:root { color-scheme: light dark; }
body { margin: 4rem auto; max-width: 40rem; padding: 0 1rem; font: 1rem/1.6 system-ui, sans-serif; }
code { font-size: .95em; }
footer { margin-top: 3rem; opacity: .75; }
</style>
</head>
<body>
<h1>pytheus_backend_rs exporter</h1>
<p>The metrics of this service, for Prometheus to scrape.</p>
<ul>
<li><a href="/metrics">Metrics</a> (<code>/metrics</code>)</li>
<li><a href="/-/healthy">Health</a> (<code>/-/healthy</code>): whether this exporter runs</li>
<li><a href="/-/ready">Readiness</a> (<code>/-/ready</code>): whether it can read the metrics</li>
</ul>
<footer>Version "#,
    env!("CARGO_PKG_VERSION"),
    r#"</footer>
</body>
</html>
"#
);
