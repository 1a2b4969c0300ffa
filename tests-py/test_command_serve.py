"""`serve` of the side-car: metrics for Prometheus, from a store that comes and goes."""

from __future__ import annotations

import contextlib
import signal
import socket
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from http_client import get_at_path
from programs import HANG
from redis_server import Server
from side_car_command import (
    CERTIFICATE,
    KINDS,
    METRICS,
    Store,
    assert_one_sentence,
    counting,
    file_store,
    redis_store,
    scrape,
    serving,
    serving_at_a_path,
    side_car,
    store_of,
)
from waiting import wait_until


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return store_of(request, tmp_path)


def test_serve_shows_the_families_that_the_query_names(store: Store) -> None:
    with counting(store), serving(url=store.url) as (_, url):
        status, text = scrape(f"{url}?name[]=http_requests_total&x=%FF")
        assert status == 200 and 'http_requests_total{path="/"} 3\n' in text
        assert text.count("# TYPE ") == 1
        assert scrape(f"{url}?name%5B%5D=nothing") == (200, "")


def test_serve_shows_when_series_began_if_it_is_asked_to(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    accept = {"Accept": "application/openmetrics-text;version=1.0.0"}

    def has_times(*arguments: str) -> bool:
        with serving(*arguments, url=store.url) as (_, url):
            request = urllib.request.Request(url, headers=accept)
            with urllib.request.urlopen(request, timeout=HANG) as answer:
                return "http_requests_created" in answer.read().decode()

    with counting(store):
        assert [has_times(), has_times("--created-samples")] == [False, True]


def test_serve_answers_503_while_the_file_is_foreign(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    (tmp_path / "metrics").write_bytes(b"not a metrics file " * 999)
    with serving(url=store.url) as (_, url):
        status, body = scrape(url)
        assert status == 503
        assert "it is no metrics file" in body
        (tmp_path / "metrics").unlink()
        with counting(store):
            assert scrape(url)[0] == 200


def test_serve_shows_later_counts_of_another_process(store: Store) -> None:
    with counting(store) as application, serving(url=store.url) as (_, url):
        status, body = scrape(url)
        assert status == 200
        assert sorted(body.splitlines()) == sorted(METRICS)
        for _ in range(39):
            application.say()
        wait_until(lambda: 'http_requests_total{path="/"} 42\n' in scrape(url)[1], "all 42 requests are seen")
        assert scrape(url.replace("/metrics", "/-/healthy"))[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_serve_cleanly(store: Store, number: signal.Signals) -> None:
    with counting(store), serving(url=store.url) as (process, url):
        assert scrape(url)[0] == 200
        process.send_signal(number)
        _, errors = process.communicate(timeout=HANG)
        assert (process.returncode, errors) == (0, "")
        with pytest.raises(OSError):
            urllib.request.urlopen(url, timeout=HANG)


def test_a_signal_ends_serve_while_the_server_is_stalled(own_server: Server) -> None:
    with serving(url=redis_store(own_server).url) as (process, url):
        assert scrape(url)[0] == 200
        own_server.pause()
        process.terminate()
        process.communicate(timeout=HANG)
        assert process.returncode == 0


def test_serve_awaits_a_file_and_follows_the_one_that_replaces_it(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    with serving(url=store.url) as (process, url):
        status, body = scrape(url)
        assert status == 503
        assert f"there is no metrics file {tmp_path}/metrics" in body
        assert list(tmp_path.iterdir()) == []
        with counting(store) as application:
            assert scrape(url) == (200, "\n".join(METRICS) + "\n")
            application.say()
            wait_until(lambda: 'path="/"} 4\n' in scrape(url)[1], "the fourth is seen")
        store.config["start"] = "reset"
        with counting(store):
            assert scrape(url) == (200, "\n".join(METRICS) + "\n")
        (tmp_path / "metrics").unlink()
        assert scrape(url)[0] == 503
        process.terminate()
        _, errors = process.communicate(timeout=HANG)
    assert process.returncode == 0
    assert errors.startswith("pytheus-backend-rs: warn: there is no metrics file"), errors


def test_serve_awaits_a_server(own_server: Server) -> None:
    store = redis_store(own_server)
    own_server.kill()
    with serving(url=store.url) as (_, url):
        status, body = scrape(url)
        assert status == 503 and f"127.0.0.1:{own_server.port}" in body
        own_server.start()
        with counting(store):
            wait_until(lambda: 'path="/"} 3\n' in scrape(url)[1], "the server's values are seen")


def test_serve_is_ready_while_the_store_can_be_read(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    with serving(url=store.url) as (_, url):
        ready = url.replace("/metrics", "/-/ready")
        status, body = scrape(ready)
        assert status == 503 and f"there is no metrics file {tmp_path}/metrics" in body
        with counting(store):
            assert scrape(ready) == (200, "ready\n")


def test_a_probe_of_readiness_reads_no_values_of_a_server(server: Server) -> None:
    store = redis_store(server)
    with counting(store), serving(url=store.url) as (_, url):
        client = server.client()
        client.expire("level", 1234)
        assert scrape(url.replace("/metrics", "/-/ready")) == (200, "ready\n")
        assert 0 < client.ttl("level") <= 1234


def test_sighup_opens_the_store_again_and_no_scrape_is_refused(own_server: Server) -> None:
    store = redis_store(own_server)
    client = own_server.client()

    def connections() -> set[str]:
        return {line["id"] for line in client.client_list() if line["name"].startswith("pytheus-backend-rs:")}

    with counting(store) as application, serving("--verbose", url=store.url) as (process, url):
        wait_until(connections, "the first connection")
        before = connections()
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
            assert process.stderr is not None
            for line in process.stderr:
                assert scrape(url)[0] == 200
                if "the store was opened again" in line:
                    break
            are_closed = partial(lambda old: connections().isdisjoint(old), before)
            wait_until(are_closed, "the old connections to be closed")
            assert scrape(url)[0] == 200
            before = connections()
            assert before
        application.say()
        wait_until(lambda: 'http_requests_total{path="/"} 4\n' in scrape(url)[1], "later counts are seen")


def test_sighup_keeps_the_open_store_if_it_cannot_be_opened_again(own_server: Server, tmp_path: Path) -> None:
    certificates = tmp_path / "certificates.pem"
    certificates.write_text(CERTIFICATE)
    url = f"rediss://127.0.0.1:{own_server.port}?ssl_ca_certs={certificates}"
    with serving(url=url) as (process, url):
        certificates.write_text("none")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        while "certificates.pem" not in (line := process.stderr.readline()):
            assert line
        assert line.endswith("; what is open stays open\n"), line
        assert scrape(url.replace("/metrics", "/-/healthy"))[0] == 200
        process.terminate()
        assert process.wait(HANG) == 0


def test_serve_listens_at_a_unix_socket_and_removes_it_at_its_end(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    path = tmp_path / "serve.sock"
    with counting(store), serving_at_a_path(path, url=store.url) as process:
        assert path.stat().st_mode & 0o777 == 0o660
        assert get_at_path(path, "/metrics") == (200, "\n".join(METRICS) + "\n")
        process.send_signal(signal.SIGHUP)
        assert get_at_path(path, "/-/ready")[0] == 200
        done = side_car("serve", "--store", store.url, "--listen", f"unix:{path}")
        assert_one_sentence(done, 1, f"cannot serve metrics on {path}: another process serves there")
        process.terminate()
        assert process.wait(HANG) == 0
    assert not path.exists()


def test_serve_replaces_the_socket_of_a_killed_process_and_no_other_file(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    path = tmp_path / "serve.sock"
    with counting(store):
        with serving_at_a_path(path, url=store.url) as process:
            process.kill()
        assert path.is_socket()
        with serving_at_a_path(path, "--socket-mode", "0600", url=store.url) as process:
            assert path.stat().st_mode & 0o777 == 0o600
            assert get_at_path(path, "/metrics")[0] == 200
            # What another process has put there stays.
            path.unlink()
            path.write_text("mine")
            process.terminate()
            assert process.wait(HANG) == 0
        done = side_car("serve", "--store", store.url, "--listen", f"unix:{path}")
        assert_one_sentence(done, 1, f"cannot serve metrics on {path}: there is a file that is no socket")
    assert path.read_text() == "mine"


def test_serve_does_not_wait_for_a_process_that_takes_no_connections(tmp_path: Path) -> None:
    path = tmp_path / "serve.sock"
    with contextlib.ExitStack() as open_sockets:

        def unix_socket() -> socket.socket:
            return open_sockets.enter_context(socket.socket(socket.AF_UNIX))

        busy = unix_socket()
        busy.bind(str(path))
        busy.listen(0)
        with pytest.raises(BlockingIOError):
            while True:
                client = unix_socket()
                client.setblocking(False)
                client.connect(str(path))
        done = side_car("serve", "--store", f"shm://{tmp_path}/metrics", "--listen", f"unix:{path}")
    assert_one_sentence(done, 1, f"cannot serve metrics on {path}: another process serves there")
    assert path.is_socket()


def test_a_port_that_is_taken_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    with serving(url=f"shm://{tmp_path}/metrics") as (_, url):
        address = url.split("/")[2]
        done = side_car("serve", "--store", f"shm://{tmp_path}/metrics", "--listen", address)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"pytheus-backend-rs: cannot serve metrics on {address}: ")
