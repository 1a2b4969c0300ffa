//! The options of an exporter, and their checks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::guard::Guard;
use super::tls::ExporterTls;
use crate::model::error::{Error, ErrorKind, Result};

/// Ten days: longer than any client needs, and small enough to be added to any `Instant`.
const MAX_TIMEOUT: Duration = Duration::from_secs(10 * 86_400);

/// The options of an [`Exporter`](crate::Exporter).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExporterOptions {
    /// The IPv4 or IPv6 address to listen at: `127.0.0.1` (the default), `::1`, `0.0.0.0` (every IPv4 address
    /// of the machine), `::` (every address), or `localhost`, which is `127.0.0.1`.
    pub address: String,
    /// The port to listen at. 0 (the default) chooses a free one: see
    /// [`Exporter::port`](crate::Exporter::port).
    pub port: u16,
    /// The prefix of the name of each family; an underscore follows it.
    pub name_prefix: Option<String>,
    /// The largest number of connections at a time, 64 by default. When all are taken and another client
    /// connects, the exporter closes the connection that has waited longest for its client to send a request
    /// or to read its answer.
    pub max_connections: usize,
    /// The time in which a client must send the headers of a request, from the start of the connection or the
    /// end of the last answer: 30 s by default. An idle connection is closed after this time.
    pub read_timeout: Duration,
    /// The time in which a client must read an answer: 30 s by default.
    pub write_timeout: Duration,
    /// The host names that requests may use, without ports. Requests with another host name get status 421.
    /// Empty (the default) allows every host name. The option keeps web pages from reading the metrics
    /// through a browser on this machine (DNS rebinding).
    pub allowed_hosts: Vec<String>,
    /// Whether OpenMetrics has samples `_created`: see [`RenderOptions`](crate::RenderOptions).
    pub created_samples: bool,
    /// TLS, if the exporter is to speak it. A client that speaks plain HTTP is then disconnected.
    pub tls: Option<ExporterTls>,
    /// Decides which requests are answered. `None` answers all.
    pub guard: Option<Guard>,
}

impl Default for ExporterOptions {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.to_string(),
            port: 0,
            name_prefix: None,
            max_connections: 64,
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            allowed_hosts: Vec::new(),
            created_samples: false,
            tls: None,
            guard: None,
        }
    }
}

impl ExporterOptions {
    /// Returns the address to listen at, or an error that names the invalid option.
    pub(super) fn check(&self) -> Result<SocketAddr> {
        let invalid = |message| Err(Error::new(ErrorKind::InvalidArgument, message));
        if self.max_connections == 0 {
            return invalid("max_connections is 0: expected at least 1".to_owned());
        }
        for (name, value) in [("read_timeout", self.read_timeout), ("write_timeout", self.write_timeout)] {
            if value.is_zero() || value > MAX_TIMEOUT {
                return invalid(format!(
                    "{name} is {value:?}: expected more than 0 and at most {MAX_TIMEOUT:?}"
                ));
            }
        }
        let literal = self.address.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        match literal.unwrap_or(&self.address) {
            "localhost" => Ok((Ipv4Addr::LOCALHOST, self.port).into()),
            text => match text.parse::<IpAddr>() {
                Ok(address) => Ok((address, self.port).into()),
                Err(_) => invalid(format!(
                    "the address to serve at is {:?}: expected an IPv4 or IPv6 address, as in 127.0.0.1 or ::1",
                    self.address
                )),
            },
        }
    }
}
