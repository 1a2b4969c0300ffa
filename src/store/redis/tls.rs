//! TLS for the connections of a store: its configuration, and explanations of failed handshakes.
//!
//! The configuration is made once, when the store is opened, so that a file that cannot be used is an error
//! there. Sessions are never resumed: the cache for that is behind a lock, which a forked child might inherit
//! held.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::model::error::{Error, ErrorKind, Result};

/// The parts of the server's certificate that are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Verification {
    /// The chain and the name.
    #[default]
    Full,
    /// The chain only.
    Chain,
    /// Nothing.
    Nothing,
}

/// What a store URL can say about TLS.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsOptions {
    /// A file of certificates to trust instead of those of the system.
    pub(crate) ca_certs: Option<PathBuf>,
    /// Certificates to trust instead of those of the system, in PEM form.
    pub(crate) ca_data: Option<String>,
    /// A file of certificates, one of which the server must show.
    pub(crate) pinned: Option<PathBuf>,
    /// The certificate to show, and its key.
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) skips_verification: bool,
    pub(crate) skips_name: bool,
    /// The name that the certificate must have, instead of that of the host.
    pub(crate) server_name: Option<String>,
}

impl TlsOptions {
    /// Returns whether some option was given.
    pub(crate) fn is_set(&self) -> bool {
        let Self { ca_certs, ca_data, pinned, certificate, key, skips_verification, skips_name, server_name } =
            self;
        ca_certs.is_some()
            || ca_data.is_some()
            || pinned.is_some()
            || certificate.is_some()
            || key.is_some()
            || server_name.is_some()
            || *skips_verification
            || *skips_name
    }

    fn verification(&self) -> Verification {
        match (self.skips_verification, self.skips_name) {
            (true, _) => Verification::Nothing,
            (false, true) => Verification::Chain,
            (false, false) => Verification::Full,
        }
    }
}

/// How to begin sessions with the servers of a store.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    /// The name that every certificate must have, instead of that of the host.
    server_name: Option<ServerName<'static>>,
}

impl Tls {
    /// Reads the files that the options name. Fails if one of them is unusable, or if one of the `hosts` can
    /// have no certificate.
    pub(crate) fn new<'host>(
        options: &TlsOptions,
        hosts: impl IntoIterator<Item = &'host str>,
    ) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let server_name = options.server_name.as_deref().map(server_name).transpose()?;
        if server_name.is_none() {
            for host in hosts {
                self::server_name(host)?;
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| configuration(format!("TLS cannot be set up: {error}")))?;
        let verification = options.verification();
        let rule = match (&options.pinned, verification) {
            (_, Verification::Nothing) => Some(Rule::Nothing),
            (Some(file), _) => Some(Rule::Pinned {
                pinned: certificates(file, "ssl_pinned_certfile")?,
                checks_name: verification == Verification::Full,
            }),
            (None, Verification::Chain) => {
                let roots = Arc::new(roots(options)?);
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
                let chain = verifier.build();
                Some(Rule::Chain(
                    chain.map_err(|error| configuration(format!("TLS cannot be set up: {error}")))?,
                ))
            }
            (None, Verification::Full) => None,
        };
        let builder = match rule {
            Some(rule) => {
                let verifier = Arc::new(Lenient { rule, provider });
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
            None => builder.with_root_certificates(roots(options)?),
        };
        let mut config = match (&options.certificate, &options.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), key) => {
                let chain = certificates(certificate, "ssl_certfile")?;
                // As in Python, the file of the certificate may hold the key, too.
                let file = key.as_ref().unwrap_or(certificate);
                let key = PrivateKeyDer::from_pem_file(file)
                    .map_err(|error| unusable("ssl_keyfile", file, &pem_reason(&error, "private key")))?;
                let with_key = builder.with_client_auth_cert(chain, key);
                with_key.map_err(|error| unusable("ssl_certfile", certificate, &error.to_string()))?
            }
            (None, Some(_)) => return Err(configuration("option \"ssl_keyfile\" needs ssl_certfile")),
        };
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), server_name })
    }

    /// Begins a session with `host`. The handshake follows with the first bytes.
    pub(crate) fn session(&self, host: &str) -> io::Result<ClientConnection> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(host).map_err(io::Error::other)?,
        };
        ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).map_err(|_| {
        configuration(format!("{name:?} cannot be the name of a TLS server: set tls_server_name"))
    })
}

fn roots(options: &TlsOptions) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &options.ca_certs {
        for certificate in certificates(file, "ssl_ca_certs")? {
            roots.add(certificate).map_err(|error| unusable("ssl_ca_certs", file, &error.to_string()))?;
        }
    }
    if let Some(text) = &options.ca_data {
        let unusable =
            |reason: &str| configuration(format!("option \"ssl_ca_data\" cannot be used: {reason}"));
        let read = CertificateDer::pem_slice_iter(text.as_bytes());
        for certificate in read {
            let certificate = certificate.map_err(|error| unusable(&pem_reason(&error, "certificate")))?;
            roots.add(certificate).map_err(|error| unusable(&error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(unusable("it has no certificate in PEM form"));
        }
    }
    if !roots.is_empty() {
        return Ok(roots);
    }
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(configuration(
            "the system has no certificates to trust: install its package of CA certificates, or set ssl_ca_certs",
        ));
    }
    Ok(roots)
}

fn certificates(file: &Path, option: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    let found = read.map_err(|error| unusable(option, file, &pem_reason(&error, "certificate")))?;
    if found.is_empty() {
        return Err(unusable(option, file, "it has no certificate in PEM form"));
    }
    Ok(found)
}

fn pem_reason(error: &rustls::pki_types::pem::Error, what: &str) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        rustls::pki_types::pem::Error::NoItemsFound => format!("it has no {what} in PEM form"),
        error => format!("it is not in PEM form: {error:?}"),
    }
}

fn unusable(option: &str, file: &Path, reason: &str) -> Error {
    configuration(format!("option {option:?}: {} cannot be used: {reason}", file.display()))
}

fn configuration(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

/// Returns what a failed handshake means and what to do, if TLS is the reason.
pub(crate) fn explain(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let text = match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is of an unknown issuer: give the issuer's certificate by ssl_ca_certs"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
            "its certificate is none of those in ssl_pinned_certfile".to_owned()
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected,
            presented,
        }) => format!(
            "its certificate is not for {}, but for {}: connect by that name, or set tls_server_name to it",
            expected.to_str(),
            presented.join(", ")
        ),
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            format!(
                "its certificate is not accepted: {other}: give a certificate that is its own issuer by \
                 ssl_pinned_certfile"
            )
        }
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "its certificate is not valid yet: is the clock right?".to_owned(),
        rustls::Error::InvalidCertificate(reason) => format!("its certificate is not accepted: {reason:?}"),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a certificate of the client: give it by ssl_certfile and ssl_keyfile".to_owned()
        }
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown),
        ) => format!("it refuses the certificate of ssl_certfile: {alert:?}"),
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS at this port: use redis://, or its TLS port".to_owned()
        }
        error => format!("TLS failed: {error}"),
    };
    Some(text)
}

/// Verifies less of a certificate than usual. It always checks that the server has the key of the certificate.
#[derive(Debug)]
struct Lenient {
    rule: Rule,
    provider: Arc<CryptoProvider>,
}

/// What is verified of a certificate.
#[derive(Debug)]
enum Rule {
    /// The chain, and not the name.
    Chain(Arc<WebPkiServerVerifier>),
    /// That the program has named the certificate, whoever has issued it, even if it has expired.
    Pinned {
        pinned: Vec<CertificateDer<'static>>,
        checks_name: bool,
    },
    Nothing,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        match &self.rule {
            Rule::Chain(inner) => {
                match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                    // The verifier checks the name last, so a wrong name means that everything else is right.
                    Err(rustls::Error::InvalidCertificate(
                        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                    )) => {}
                    result => return result,
                }
            }
            Rule::Pinned { pinned, checks_name } => {
                if !pinned.iter().any(|pinned| pinned == end_entity) {
                    return Err(CertificateError::ApplicationVerificationFailure.into());
                }
                if *checks_name {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
            }
            Rule::Nothing => {}
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
