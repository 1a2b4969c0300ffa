//! TLS of an exporter: its certificate, and those that it wants of clients.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use crate::model::error::{Error, ErrorKind, Result};

/// The versions of TLS that an exporter speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    All,
    /// 1.2 only.
    Tls12,
    /// 1.3 only.
    Tls13,
}

/// The certificates of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCertificates<'pem> {
    /// The authorities that may have signed them, in PEM form.
    pub authorities: &'pem [u8],
    /// Whether a client must show one. Otherwise only one that it shows is verified.
    pub are_required: bool,
}

/// How an exporter speaks TLS.
#[derive(Debug, Clone)]
pub struct ExporterTls {
    config: Arc<ServerConfig>,
}

impl ExporterTls {
    /// Reads a certificate with its chain, and its key, both in PEM form.
    ///
    /// Returns [`ErrorKind::InvalidArgument`] if they, or the authorities, cannot be used.
    pub fn new(
        certificate: &[u8],
        key: &[u8],
        clients: Option<ClientCertificates<'_>>,
        versions: TlsVersions,
    ) -> Result<Self> {
        let chain = certificates(certificate, "the certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| invalid("the key", &error))?;
        let provider = Arc::new(ring::default_provider());
        let versions: &[&SupportedProtocolVersion] = match versions {
            TlsVersions::All => &[&TLS13, &TLS12],
            TlsVersions::Tls12 => &[&TLS12],
            TlsVersions::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(versions).map_err(|error| invalid("TLS", &error))?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(clients.authorities, "the authorities of clients")? {
                    roots.add(authority).map_err(|error| invalid("the authorities of clients", &error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = if clients.are_required { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|error| invalid("the authorities of clients", &error))?,
                )
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| invalid("the certificate and its key", &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config).into()
    }
}

/// Two are equal if they are copies of one.
impl PartialEq for ExporterTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for ExporterTls {}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let all: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(invalid(what, &"no certificate is in it")),
        Ok(all) => Ok(all),
        Err(error) => Err(invalid(what, &error)),
    }
}

fn invalid(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("{what} of the exporter cannot be used: {error}"))
}
