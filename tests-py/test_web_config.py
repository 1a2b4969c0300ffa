"""`serve --web.config.file`: TLS and basic authentication, with real clients and a real Prometheus."""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import make_authority, make_certificate
from http_client import get
from operators_kit import KIT, run, side_car
from programs import HANG, running
from prometheus_server import Prometheus
from waiting import wait_until

#: Counts once, and stays until its input ends.
APPLICATION = """
import pytheus_backend_rs
load_backend(getattr(pytheus_backend_rs, config.pop("class")), config)
Counter("mails_total", "Mails sent.").inc(2)
print("counted", flush=True)
sys.stdin.readline()
"""

#: Of the password "s3cret", at bcrypt's lowest cost.
HASH = "$2b$04$1dojydwXt7Qg/K4DMGAR1.Szt9UdjxjPdA2jT9NmmlFn2xUofcmrK"

TLS = "tls_server_config: {cert_file: server.crt, key_file: server.key%s}\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """Yields the URL of a metrics file in which a process counts."""
    path = tmp_path / "metrics"
    with running(APPLICATION, {"class": "SharedMemoryBackend", "path": str(path)}) as application:
        application.line()
        yield f"shm://{path}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Returns a folder with certificates of a server and of a client, and of their authority."""
    folder = tmp_path / "web"
    folder.mkdir()
    make_authority(folder)
    make_certificate(folder, "server")
    make_certificate(folder, "client")
    return folder


@contextlib.contextmanager
def serving(
    store: str, folder: Path, config: str, *arguments: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A side-car with this web configuration, and its port."""
    file = folder / "web-config.yml"
    file.write_text(config)
    command = ["serve", f"--store={store}", "--listen=127.0.0.1:0", f"--web.config.file={file}", *arguments]
    process = subprocess.Popen(
        [side_car(), *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.fullmatch(r"serving \S+ on (https?)://127\.0\.0\.1:(\d+)/metrics\n", line)
        assert match, (line, process.communicate(timeout=HANG))
        assert (match[1] == "https") == ("tls_server_config" in config)
        yield process, int(match[2])
    finally:
        process.kill()
        process.communicate()


def get_by_tls(
    folder: Path, port: int, path: str = "/metrics", client: str | None = None, password: str | None = None
) -> tuple[int, str]:
    """Returns the status and the text of an answer."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    if client is not None:
        context.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=HANG, context=context)
    headers = authorization(password) if password is not None else {}
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def authorization(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"ann:{password}".encode()).decode()}


def test_prometheus_scrapes_with_a_password_by_tls(store: str, folder: Path, tmp_path: Path) -> None:
    config = TLS % "" + f"basic_auth_users: {{ann: {HASH}}}\n"
    access = {
        "scheme": "https",
        "tls_config": {"ca_file": str(folder / "ca.crt")},
        "basic_auth": {"username": "ann", "password": "s3cret"},
    }
    with serving(store, folder, config) as (_, port):
        # The same file is one of Prometheus' own.
        done = run("promtool", "check", "web-config", folder / "web-config.yml")
        assert done.returncode == 0, done.stdout + done.stderr
        prometheus = Prometheus(tmp_path, {"shop": port}, access=access)
        try:
            wait_until(lambda: [value for _, value in prometheus.query("mails_total")] == [2], "a scrape")
        finally:
            prometheus.close()


def test_without_the_password_each_page_is_401(store: str, folder: Path) -> None:
    with serving(store, folder, f"basic_auth_users: {{ann: {HASH}}}\n") as (_, port):
        for _ in range(2):
            for path in ("/metrics", "/", "/-/healthy", "/-/ready"):
                assert get(port, path, authorization("s3cret")).status == 200
                for headers in ({}, authorization("s3cre"), authorization("")):
                    answer = get(port, path, headers)
                    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Basic")
                    assert answer.text == "unauthorized\n"


def test_a_client_must_show_a_certificate_if_the_file_says_so(store: str, folder: Path) -> None:
    required = ", client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert"
    with serving(store, folder, TLS % required) as (_, port):
        assert "mails_total 2\n" in get_by_tls(folder, port, client="client")[1]
        with pytest.raises(OSError):
            get_by_tls(folder, port)
        # Plain HTTP is not answered.
        with pytest.raises((OSError, http.client.HTTPException)):
            get(port, "/metrics")
        assert get_by_tls(folder, port, client="client")[0] == 200


def test_clients_that_begin_no_handshake_make_room_for_one_that_does(store: str, folder: Path) -> None:
    with serving(store, folder, TLS % "") as (_, port), contextlib.ExitStack() as stack:
        for _ in range(70):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert get_by_tls(folder, port)[0] == 200


def test_versions_of_tls_are_those_of_the_file(store: str, folder: Path) -> None:
    for version, key in (
        (ssl.TLSVersion.TLSv1_2, "max_version: TLS12"),
        (ssl.TLSVersion.TLSv1_3, "min_version: TLS13"),
    ):
        other = ssl.TLSVersion.TLSv1_3 if version == ssl.TLSVersion.TLSv1_2 else ssl.TLSVersion.TLSv1_2
        with serving(store, folder, TLS % f", {key}") as (_, port):
            for offered, is_spoken in ((version, True), (other, False)):
                context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
                context.minimum_version = context.maximum_version = offered
                connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=HANG, context=context)
                with contextlib.closing(connection), contextlib.ExitStack() as stack:
                    if not is_spoken:
                        stack.enter_context(pytest.raises(ssl.SSLError))
                    connection.connect()


def test_sighup_reads_the_configuration_and_the_certificates_again(store: str, folder: Path) -> None:
    config = TLS % "" + f"basic_auth_users: {{ann: {HASH}}}\n"
    with serving(store, folder, config, "--verbose") as (process, port):
        assert get_by_tls(folder, port, password="s3cret")[0] == 200
        first = ssl.get_server_certificate(("127.0.0.1", port))
        make_certificate(folder, "server")
        (folder / "web-config.yml").write_text(TLS % "")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        while "the store was opened again" not in (line := process.stderr.readline()):
            assert line
        assert get_by_tls(folder, port)[0] == 200, "no password is needed any more"
        assert ssl.get_server_certificate(("127.0.0.1", port)) != first
        # What cannot be used leaves what is open.
        (folder / "web-config.yml").write_text("tls_server_config: {}\nbasic_auth: {}\n")
        process.send_signal(signal.SIGHUP)
        while "basic_auth is not supported" not in (line := process.stderr.readline()):
            assert line
        assert get_by_tls(folder, port)[0] == 200


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "No such file"),
        ("basic_auth_users: {ann: s3cret}", 'user "ann" has no bcrypt hash'),
        (TLS % ", cipher_suites: [x]", "cipher_suites is not supported"),
        ("tls_server_config: {cert_file: ca.crt, key_file: server.key}", "certificate"),
        ("tls_server_config: {cert_file: web-config.yml, key_file: server.key}", "no certificate is in it"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_one_sentence(
    folder: Path, config: str | None, reason: str
) -> None:
    file = folder / "web-config.yml"
    if config is not None:
        file.write_text(config)
    done = run(
        side_car(), "serve", "--store=shm:///nothing", "--listen=127.0.0.1:0", f"--web.config.file={file}"
    )
    assert done.returncode == 2
    (sentence,) = [line for line in done.stderr.splitlines() if "warn:" not in line]
    assert sentence.startswith(f"pytheus-backend-rs: web configuration {file}: ") and reason in sentence
    assert "s3cret" not in done.stderr


def test_the_configuration_of_the_kit_is_one_of_prometheus_and_of_serve(store: str, folder: Path) -> None:
    config = (KIT / "prometheus" / "web-config.yml").read_text("utf-8")
    with serving(store, folder, config) as (_, port):
        done = run("promtool", "check", "web-config", folder / "web-config.yml")
        assert done.returncode == 0, done.stdout + done.stderr
        assert get_by_tls(folder, port)[0] == 401
    # With the lines for certificates of clients, too.
    shutil.copy(folder / "ca.crt", folder / "clients.crt")
    with serving(store, folder, re.sub(r"(?m)^  # (client_)", r"  \1", config)) as (_, port):
        assert get_by_tls(folder, port, client="client")[0] == 401
        with pytest.raises(OSError):
            get_by_tls(folder, port)
