"""The units of contrib/systemd: what systemd itself says about them, and what their commands do."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from http_client import get, get_at_path
from operators_kit import (
    INSTALLED_SCRIPT,
    INSTALLED_SIDE_CAR,
    KIT,
    SCRIPT,
    command_of_unit,
    options_of,
    run,
    serving,
    side_car,
)
from programs import HANG, running
from redis_server import Server, free_port
from waiting import wait_until

UNITS = KIT / "systemd"
SERVICE = "pytheus-backend-rs@.service"
CHECK = "pytheus-backend-rs-check@.service"

#: Counts once, and stays until its input ends.
APPLICATION = """
import pytheus_backend_rs
load_backend(getattr(pytheus_backend_rs, config.pop("class")), config)
Counter("http_requests_total", "Requests served.", required_labels=["path"]).labels(path="/").inc()
generate_metrics()
print("counted", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def file_store(path: Path) -> Iterator[str]:
    """Yields the URL of a metrics file that a process has open."""
    with running(APPLICATION, {"class": "SharedMemoryBackend", "path": str(path)}) as application:
        application.line()
        yield f"shm://{path}"


# The units


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Returns a folder with the units, in which the programs are where they are in this tree."""
    for unit in UNITS.glob("*@.*"):
        text = unit.read_text("utf-8").replace(INSTALLED_SIDE_CAR, side_car())
        (tmp_path / unit.name).write_text(text.replace(INSTALLED_SCRIPT, str(SCRIPT)), "utf-8")
    return tmp_path


def test_systemd_finds_no_fault_in_the_units(units: Path) -> None:
    names = sorted(units.iterdir())
    assert len(names) == 4
    done = run("systemd-analyze", "verify", "--man=no", *names)
    # It also has something to say about units of this machine.
    faults = [line for line in done.stderr.splitlines() if "pytheus" in line]
    assert (done.returncode, faults) == (0, [])


@pytest.mark.parametrize("unit", [SERVICE, CHECK])
def test_a_unit_may_do_little(units: Path, unit: str) -> None:
    """systemd's own measure of what a service is exposed to: 0 is nothing, 100 is everything."""
    done = run("systemd-analyze", "security", "--offline=yes", "--threshold=25", units / unit)
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_makes_the_user_of_the_service() -> None:
    user = re.findall(r"^User=(.+)$", (UNITS / SERVICE).read_text("utf-8"), re.MULTILINE)
    done = run("systemd-sysusers", "--dry-run", UNITS / "pytheus-backend-rs.sysusers")
    assert done.returncode == 0, done.stderr
    assert f"user '{user[0]}'" in done.stdout + done.stderr


def test_the_settings_are_those_that_the_units_read() -> None:
    lines = (UNITS / "shop.conf").read_text("utf-8").splitlines()
    settings = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert settings.keys() == {"PYTHEUS_BACKEND_RS_STORE", "LISTEN"}
    assert f"Environment=LISTEN={settings['LISTEN']}\n" in (UNITS / SERVICE).read_text("utf-8")
    assert f"ListenStream={settings['LISTEN']}\n" in (UNITS / "pytheus-backend-rs@.socket").read_text("utf-8")


# What they run


def test_the_service_serves_the_store_of_its_settings(tmp_path: Path) -> None:
    program, *arguments = command_of_unit(SERVICE, LISTEN="127.0.0.1:0")
    assert program == side_car()
    assert {argument for argument in arguments if argument.startswith("--")} <= options_of("serve")
    with (
        file_store(tmp_path / "metrics") as url,
        serving(arguments, PYTHEUS_BACKEND_RS_STORE=url) as port,
    ):
        text = get(port, "/metrics").text
    assert 'http_requests_total{path="/"} 1\n' in text
    assert "\npytheus_side_car_process_open_fds " in text


@contextlib.contextmanager
def activated(*sockets: str, store: str) -> Iterator[subprocess.Popen[str]]:
    """Runs the service as systemd does for a socket unit: when the first client has connected."""
    # A port at which nothing may be served: the socket comes first.
    command = command_of_unit(SERVICE, LISTEN="127.0.0.1:1")
    listen = [f"--listen={place}" for place in sockets]
    process = subprocess.Popen(
        ["systemd-socket-activate", *listen, f"--setenv=PYTHEUS_BACKEND_RS_STORE={store}", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answers(port: int) -> bool:
    try:
        return get(port, "/-/healthy").status == 200
    except OSError:
        return False


def test_the_service_serves_on_the_socket_of_systemd(tmp_path: Path) -> None:
    port = free_port()
    with file_store(tmp_path / "metrics") as url, activated(f"127.0.0.1:{port}", store=url) as process:
        wait_until(lambda: answers(port), "the socket to be served")
        assert 'http_requests_total{path="/"} 1\n' in get(port, "/metrics").text
        process.terminate()
        stdout, _ = process.communicate(timeout=HANG)
    assert process.returncode == 0
    assert stdout == f"serving {url} on http://127.0.0.1:{port}/metrics\n"


def test_two_sockets_are_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    other = f"127.0.0.1:{free_port()}"
    with activated(str(path), other, store=f"shm://{tmp_path}/metrics") as process:
        with socket.socket(socket.AF_UNIX) as client:

            def is_connected() -> bool:
                try:
                    client.connect(str(path))
                except OSError:
                    return False
                return True

            wait_until(is_connected, "the socket to be there")
            _, stderr = process.communicate(timeout=HANG)
    assert process.returncode == 2
    assert stderr.splitlines()[-1].startswith("pytheus-backend-rs: systemd has passed 2 sockets: ")


def test_the_service_serves_on_the_unix_socket_of_systemd(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with file_store(tmp_path / "metrics") as url, activated(str(path), store=url) as process:
        wait_until(path.exists, "the socket to be there")
        status, text = get_at_path(path, "/metrics")
        assert status == 200 and 'http_requests_total{path="/"} 1\n' in text
        process.terminate()
        stdout, _ = process.communicate(timeout=HANG)
        assert path.exists(), "it is systemd's"
    assert (process.returncode, stdout) == (0, f"serving {url} on unix:{path}\n")


#: Gives a program a socket as systemd does, and runs it in its place.
PASS_SOCKET = """
import os, socket, sys
kind, command = sys.argv[1], sys.argv[2:]
if kind == "connected":
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    passed = listener.accept()[0]
else:
    passed = socket.socket(socket.AF_INET, {"udp": socket.SOCK_DGRAM, "unbound": socket.SOCK_STREAM}[kind])
if kind == "udp":
    passed.bind(("127.0.0.1", 0))
# Descriptor 3 may be this very socket.
passed = os.dup(passed.fileno())
os.dup2(passed, 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(command[0], command)
"""


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("udp", r"a UDP socket \(127\.0\.0\.1:\d+\): expected ListenStream in the socket unit"),
        ("connected", r"a TCP socket \(127\.0\.0\.1:\d+\) that does not listen, such as a connection"),
        ("unbound", r"a TCP socket \(0\.0\.0\.0:0\) that does not listen, such as a connection"),
    ],
)
def test_a_socket_that_does_not_listen_is_named(kind: str, reason: str) -> None:
    command = [side_car(), "serve", "--store=shm:///nothing"]
    done = run(sys.executable, "-c", PASS_SOCKET, kind, *command)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert re.match(f"pytheus-backend-rs: systemd has passed {reason}", done.stderr), done.stderr


def test_a_reload_opens_the_store_again(tmp_path: Path) -> None:
    unit = (UNITS / SERVICE).read_text("utf-8")
    (reload,) = re.findall(r"^ExecReload=(.+)$", unit, re.MULTILINE)
    command = command_of_unit(SERVICE, LISTEN="127.0.0.1:0")
    with (
        file_store(tmp_path / "metrics") as url,
        subprocess.Popen(
            [*command, "--verbose", f"--store={url}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None and process.stderr is not None
        try:
            assert process.stdout.readline()
            assert run(*reload.replace("$MAINPID", str(process.pid)).split()).returncode == 0
            while "the store was opened again" not in (line := process.stderr.readline()):
                assert line
        finally:
            process.kill()


# The check


def checked(folder: Path, store: str) -> dict[str, float]:
    """Runs the command of the check's unit, and returns the metrics that it has written."""
    command = command_of_unit(CHECK)
    assert command[2] == "/var/lib/prometheus/node-exporter"
    command[2] = str(folder)
    done = run(*command, PYTHEUS_BACKEND_RS_STORE=store)
    assert done.returncode == 0, done.stderr
    # No draft is left.
    assert [file.name for file in folder.iterdir()] == ["pytheus-store-shop.prom"]
    text = (folder / "pytheus-store-shop.prom").read_text("utf-8")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=HANG
    )
    assert (done.returncode, done.stderr) == (0, ""), text
    samples = [line.split(" ") for line in text.splitlines() if not line.startswith("#")]
    assert all(name.endswith('{store="shop"}') for name, _ in samples), text
    return {name.partition("{")[0].removeprefix("pytheus_store_"): float(value) for name, value in samples}


def test_a_check_tells_how_full_a_sound_file_is(tmp_path: Path) -> None:
    (tmp_path / "textfile").mkdir()
    with file_store(tmp_path / "metrics") as url:
        found = checked(tmp_path / "textfile", url)
    assert (found["readable"], found["faults"], found["limit_bytes"]) == (1, 0, 67108864)
    assert 0 < found["used_bytes"] < 1_000_000
    assert found["check_timestamp_seconds"] > 1e9


def test_a_check_replaces_what_the_last_one_has_found(tmp_path: Path) -> None:
    (tmp_path / "textfile").mkdir()
    path = tmp_path / "metrics"
    with file_store(path) as url:
        assert checked(tmp_path / "textfile", url)["faults"] == 0
    content = bytearray(path.read_bytes())
    content[content.index(b'{"path":"/"}') + 2] ^= 1
    path.write_bytes(content)
    found = checked(tmp_path / "textfile", url)
    assert (found["readable"], found["faults"]) == (1, 1)
    path.unlink()
    found = checked(tmp_path / "textfile", url)
    assert found.keys() == {"readable", "check_timestamp_seconds"} and found["readable"] == 0


def test_a_check_of_a_server_tells_no_size(server: Server, tmp_path: Path) -> None:
    with running(APPLICATION, {"class": "RedisBackend", **server.config}) as application:
        application.line()
        found = checked(tmp_path, f"redis://127.0.0.1:{server.port}")
    assert found.keys() == {"readable", "faults", "check_timestamp_seconds"}
    assert (found["readable"], found["faults"]) == (1, 0)


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "../a"])
def test_a_name_that_is_no_label_and_no_file_is_refused(tmp_path: Path, name: str) -> None:
    done = run(SCRIPT, name, tmp_path, side_car(), PYTHEUS_BACKEND_RS_STORE="shm:///nothing")
    assert done.returncode == 2 and "expected letters" in done.stderr
    assert list(tmp_path.iterdir()) == []
