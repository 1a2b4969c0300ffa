//! The Redis store over TLS, against a real server with certificates of an authority that the test makes: the
//! same promises as without TLS, and a refusal that says what is wrong and what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use pytheus_backend_rs::{Backend, ErrorKind};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use support::cluster::Cluster;
use support::process::fork;
use support::writers::rounds;
use support::*;

/// A certification authority in a folder of its own.
struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("pytheus-test-tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// Makes `name.pem` and `name.key` for these host names.
    fn certify(&self, name: &str, hosts: &[&str], expired: bool) {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// Starts a server that shows the certificate `name`. It also has a port without TLS.
    fn server(&self, name: &str, wants_client_certificate: bool) -> (Server, u16) {
        let port = free_port();
        let server = Server::start_with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &self.file(&format!("{name}.pem")),
            "--tls-key-file",
            &self.file(&format!("{name}.key")),
            "--tls-ca-cert-file",
            &self.file("ca.pem"),
            "--tls-auth-clients",
            if wants_client_certificate { "yes" } else { "no" },
        ]);
        (server, port)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn url(port: u16, options: &str) -> String {
    format!("rediss://127.0.0.1:{port}/?connect_timeout=2&{options}")
}

fn refusal(url: &str) -> String {
    Backend::open(url).unwrap_err().message().to_owned()
}

#[test]
fn values_are_sent_and_read_over_tls() {
    let authority = Authority::new("values");
    authority.certify("server", &["127.0.0.1"], false);
    let (server, port) = authority.server("server", false);
    let trusted = format!("ssl_ca_certs={}", authority.file("ca.pem"));
    let backend = Backend::open(&url(port, &trusted)).unwrap();
    let requests = counter(&backend, "requests_total");
    let load = Load::start(&requests, 2);
    for _ in 0..5 {
        load.wait_for(1_000);
        server.run_words::<()>("CLIENT KILL TYPE normal");
        backend.collect(None).unwrap();
    }
    let total = load.end();
    flush(&backend);
    assert_eq!(server.value("requests_total"), total);
    assert_eq!(requests.get().unwrap(), total);
    // The tickets that a TLS server sends unasked are no reason to connect again.
    let connections = |info: String| {
        info.lines().find_map(|line| line.strip_prefix("total_connections_received:")?.parse::<u64>().ok())
    };
    let before = connections(server.run_words("INFO stats")).unwrap();
    for _ in 0..5 {
        requests.inc(1.0).unwrap();
        requests.get().unwrap();
    }
    let after = connections(server.run_words("INFO stats")).unwrap();
    assert!(after - before <= 3 + 1, "{} new connections", after - before);
    backend.close().unwrap();
}

#[test]
fn a_certificate_that_cannot_be_trusted_is_refused_with_the_reason() {
    let (authority, other) = (Authority::new("trusted"), Authority::new("other"));
    authority.certify("server", &["127.0.0.1"], false);
    authority.certify("elsewhere", &["redis.test", "cache.test"], false);
    authority.certify("expired", &["127.0.0.1"], true);
    let trusted = format!("ssl_ca_certs={}", authority.file("ca.pem"));
    let (_server, port) = authority.server("server", false);
    let untrusted = format!("ssl_ca_certs={}", other.file("ca.pem"));
    let message = refusal(&url(port, &untrusted));
    assert!(message.contains("unknown issuer: give the issuer's certificate by ssl_ca_certs"), "{message}");
    assert!(message.contains(&format!("127.0.0.1:{port}")), "{message}");
    for verification in ["ssl_cert_reqs=none", &format!("{trusted}&ssl_check_hostname=false")] {
        assert_eq!(counter(&Backend::open(&url(port, verification)).unwrap(), "a_total").get().unwrap(), 0.0);
    }
    let (_elsewhere, port) = authority.server("elsewhere", false);
    let message = refusal(&url(port, &trusted));
    assert!(message.contains("not for 127.0.0.1, but for") && message.contains("redis.test"), "{message}");
    assert!(message.contains("tls_server_name"), "{message}");
    for way in ["tls_server_name=cache.test", "ssl_check_hostname=false", "ssl_cert_reqs=none"] {
        Backend::open(&url(port, &format!("{trusted}&{way}"))).unwrap();
    }
    let message = refusal(&url(port, &format!("{untrusted}&ssl_check_hostname=false")));
    assert!(message.contains("unknown issuer"), "without the name the chain is still verified: {message}");
    let (_expired, port) = authority.server("expired", false);
    let message = refusal(&url(port, &trusted));
    assert!(message.contains("its certificate has expired"), "{message}");
}

#[test]
fn a_certificate_of_the_client_is_shown_where_it_is_wanted() {
    let authority = Authority::new("client");
    authority.certify("server", &["127.0.0.1"], false);
    authority.certify("me", &["me.test"], false);
    let (_server, port) = authority.server("server", true);
    let trusted = format!("ssl_ca_certs={}", authority.file("ca.pem"));
    let message = refusal(&url(port, &trusted));
    assert!(message.contains("wants a certificate of the client: give it by ssl_certfile"), "{message}");
    let (certificate, key) = (authority.file("me.pem"), authority.file("me.key"));
    let shown = format!("{trusted}&ssl_certfile={certificate}&ssl_keyfile={key}");
    let backend = Backend::open(&url(port, &shown)).unwrap();
    assert_eq!(counter(&backend, "requests_total").get().unwrap(), 0.0);
    let message = refusal(&url(port, &format!("{trusted}&ssl_certfile={certificate}")));
    assert!(message.contains("ssl_keyfile") && message.contains("no private key in PEM form"), "{message}");
}

#[test]
fn the_wrong_port_and_files_without_certificates_are_named() {
    let authority = Authority::new("wrong");
    authority.certify("server", &["127.0.0.1"], false);
    let (server, port) = authority.server("server", false);
    let trusted = format!("ssl_ca_certs={}", authority.file("ca.pem"));
    let began = Instant::now();
    let message = refusal(&url(server.port(), &trusted));
    assert!(message.contains("TLS at this port"), "TLS to a plain port: {message}");
    assert!(began.elapsed() < PATIENCE);
    let message = refusal(&format!("redis://127.0.0.1:{port}/?connect_timeout=2"));
    assert!(message.contains("rediss://"), "plain to a TLS port: {message}");
    for (name, content) in
        [("empty.pem", ""), ("key.pem", &*std::fs::read_to_string(authority.file("server.key")).unwrap())]
    {
        std::fs::write(authority.folder.join(name), content).unwrap();
        let error = Backend::open(&url(port, &format!("ssl_ca_certs={}", authority.file(name)))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        let message = error.message();
        assert!(
            message.contains("ssl_ca_certs") && message.contains("no certificate in PEM form"),
            "{message}"
        );
    }
    assert!(!Path::new(&authority.file("none.pem")).exists());
    let message = refusal(&url(port, &format!("ssl_ca_certs={}", authority.file("none.pem"))));
    assert!(message.contains("none.pem") && message.contains("No such file"), "{message}");
}

#[test]
fn a_handshake_that_stalls_ends_in_time() {
    let authority = Authority::new("stall");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let began = Instant::now();
    let options = format!("ssl_ca_certs={}&connect_timeout=0.3", authority.file("ca.pem"));
    let message = refusal(&format!("rediss://127.0.0.1:{port}/?{options}"));
    assert!(message.contains("no answer in time to the start of TLS"), "{message}");
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn forked_children_count_over_tls_and_leave_the_session_of_their_parent_alone() {
    let authority = Authority::new("forks");
    authority.certify("server", &["127.0.0.1"], false);
    let (server, port) = authority.server("server", false);
    let options = format!("ssl_ca_certs={}&flush_interval_ms=1", authority.file("ca.pem"));
    let backend = Backend::open(&url(port, &options)).unwrap();
    let requests = counter(&backend, "requests_total");
    // Handshakes go on in the parent's threads at every fork.
    let load = Load::start(&requests, 2);
    let children: Vec<_> = (0..40)
        .map(|_| {
            server.run_words::<()>("CLIENT KILL TYPE normal");
            fork(|| {
                requests.inc(1.0).unwrap();
                // Another kill may hit the connection that is just made.
                (0..100).any(|_| backend.flush(PATIENCE).is_ok())
            })
        })
        .collect();
    children.into_iter().for_each(|child| child.join());
    let total = load.end() + 40.0;
    flush_at_last(&backend);
    assert_eq!(server.value("requests_total"), total);
}

#[test]
fn sentinels_and_the_servers_that_they_name_speak_tls() {
    let authority = Authority::new("sentinel");
    authority.certify("server", &["127.0.0.1"], false);
    let [ca, certificate, key] = ["ca.pem", "server.pem", "server.key"].map(|name| authority.file(name));
    let (mut master, port) = authority.server("server", false);
    // A Sentinel speaks TLS to the servers that it watches, and listens for TLS at a port of its own.
    let sentinel_port = free_port();
    let sentinel = Server::start_with(&[
        "--sentinel",
        "--tls-port",
        &sentinel_port.to_string(),
        "--tls-replication",
        "yes",
        "--tls-auth-clients",
        "no",
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
    ]);
    sentinel.run_words::<()>(&format!("SENTINEL MONITOR mymaster 127.0.0.1 {port} 1"));
    let url =
        format!("rediss-sentinel://127.0.0.1:{sentinel_port}/mymaster?connect_timeout=2&ssl_ca_certs={ca}");
    let backend = Backend::open(&url).unwrap();
    counter(&backend, "requests_total").inc(2.0).unwrap();
    flush(&backend);
    assert_eq!(master.value("requests_total"), 2.0);
    let plain = format!(
        "rediss-sentinel://127.0.0.1:{}/mymaster?connect_timeout=2&ssl_ca_certs={ca}&sentinel_ssl=false",
        sentinel.port()
    );
    drop(Backend::open(&plain).unwrap());
    let untrusted = Backend::open(&url.replace(&ca, &certificate)).map(|_| ()).unwrap_err();
    assert!(untrusted.message().contains("Sentinel at 127.0.0.1"), "{untrusted}");
    let mixed = Backend::open(&plain.replace("=false", "=true")).map(|_| ()).unwrap_err();
    assert!(mixed.message().contains("TLS"), "{mixed}");
    master.kill();
}

#[test]
fn a_certificate_is_pinned_and_a_ca_is_given_as_text() {
    let authority = Authority::new("pinned");
    authority.certify("server", &["127.0.0.1"], false);
    authority.certify("other", &["127.0.0.1"], false);
    authority.certify("named", &["redis.example.org"], true);
    let (_server, port) = authority.server("server", false);
    let pinned = |name: &str| format!("ssl_pinned_certfile={}", authority.file(&format!("{name}.pem")));
    drop(Backend::open(&url(port, &pinned("server"))).unwrap());
    let refused = Backend::open(&url(port, &pinned("other"))).map(|_| ()).unwrap_err();
    assert!(refused.message().contains("none of those in ssl_pinned_certfile"), "{refused}");
    // Neither the issuer nor the dates of a pinned certificate matter, but its name does.
    let (_named, port_of_named) = authority.server("named", false);
    let refused = Backend::open(&url(port_of_named, &pinned("named"))).map(|_| ()).unwrap_err();
    assert!(refused.message().contains("redis.example.org"), "{refused}");
    let with_name = format!("{}&tls_server_name=redis.example.org", pinned("named"));
    drop(Backend::open(&url(port_of_named, &with_name)).unwrap());
    let without_name = format!("{}&ssl_check_hostname=false", pinned("named"));
    drop(Backend::open(&url(port_of_named, &without_name)).unwrap());

    let text = std::fs::read_to_string(authority.file("ca.pem")).unwrap();
    let encoded = text.replace('+', "%2B").replace('\n', "%0A").replace('=', "%3D").replace('/', "%2F");
    drop(Backend::open(&url(port, &format!("ssl_ca_data={encoded}"))).unwrap());
    let empty = Backend::open(&url(port, "ssl_ca_data=nothing")).map(|_| ()).unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::Configuration);
    assert!(empty.message().contains("no certificate in PEM form"), "{empty}");
}

#[test]
fn the_nodes_of_a_cluster_speak_tls() {
    let authority = Authority::new("cluster");
    authority.certify("server", &["127.0.0.1"], false);
    let [ca, certificate, key] = ["ca.pem", "server.pem", "server.key"].map(|name| authority.file(name));
    let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let arguments: Vec<&str> = files.into_iter().chain(["--tls-auth-clients", "no"]).collect();
    let (cluster, ports) = Cluster::start_tls(2, &arguments);
    let url = format!("rediss-cluster://127.0.0.1:{}?connect_timeout=2&ssl_ca_certs={ca}", ports[0]);
    let backend = Backend::open(&url).unwrap();
    for name in (0..20).map(|number| format!("counter{number}_total")) {
        counter(&backend, &name).inc(1.0).unwrap();
    }
    flush(&backend);
    for node in &cluster.nodes {
        assert!(node.run_words::<usize>("DBSIZE") > 2, "the families are at both nodes");
    }
    let untrusted = Backend::open(&url.replace(&ca, &certificate)).map(|_| ()).unwrap_err();
    assert!(untrusted.message().contains("certificate"), "{untrusted}");
}

/// Forks in the middle of the handshakes of three other threads: 100 times, or 1,000 in `make test-long`.
#[test]
fn forks_in_the_middle_of_handshakes_hang_no_child() {
    let authority = Authority::new("handshakes");
    authority.certify("server", &["127.0.0.1"], false);
    let (server, port) = authority.server("server", false);
    let url = url(port, &format!("ssl_ca_certs={}", authority.file("ca.pem")));
    let backend = Backend::open(&url).unwrap();
    let total = counter(&backend, "requests_total");
    let ends = AtomicBool::new(false);
    let forks = 50 * rounds();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !ends.load(Ordering::Relaxed) {
                    drop(Backend::open(&url).unwrap());
                }
            });
        }
        for _ in 0..forks {
            fork(|| {
                total.inc(1.0).unwrap();
                backend.flush(PATIENCE).is_ok()
            })
            .join();
        }
        ends.store(true, Ordering::Relaxed);
    });
    assert_eq!(server.value("requests_total"), forks as f64);
}
