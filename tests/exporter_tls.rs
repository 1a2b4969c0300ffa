//! The HTTP exporter over TLS: its limits hold as without.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use pytheus_backend_rs::{Backend, Exporter, ExporterOptions, ExporterTls, TlsVersions};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

type Client = StreamOwned<ClientConnection, TcpStream>;

/// Makes a certificate that is its own authority: what the exporter shows, and what a client trusts.
fn certified() -> (ExporterTls, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = ExporterTls::new(certificate.as_bytes(), key.as_bytes(), None, TlsVersions::All).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    (tls, Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
}

/// Connects, and finishes the handshake.
fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Client {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut connection = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).unwrap();
    }
    StreamOwned::new(connection, socket)
}

#[test]
fn an_idle_client_makes_room_for_another_one() {
    let (tls, client) = certified();
    let backend = Backend::open("memory:").unwrap();
    let read_timeout = Duration::from_secs(600);
    let options =
        ExporterOptions { tls: Some(tls), max_connections: 1, read_timeout, ..ExporterOptions::default() };
    let exporter = Exporter::start(&backend, options).unwrap();
    for _ in 0..3 {
        let mut idle = connect(exporter.address(), &client);
        let mut other = connect(exporter.address(), &client);
        other.write_all(b"GET /-/healthy HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = [0; 15];
        other.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.0 200 OK");
        // A connection that is closed without the farewell of TLS ends with an error of its own.
        let ended = idle.read(&mut [0]).map_err(|error| error.kind());
        assert!(
            matches!(ended, Ok(0) | Err(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset)),
            "{ended:?}"
        );
    }
}
