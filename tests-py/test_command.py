"""The command line of the side-car: what it says of itself, and of what is wrong with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from programs import HANG
from redis_server import Server, free_port
from side_car_command import (
    COMMAND,
    COMMANDS,
    assert_one_sentence,
    counting,
    file_store,
    scrape,
    serving,
    side_car,
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does_and_what_it_needs(command: str) -> None:
    done = side_car(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("--store <URL>", "PYTHEUS_BACKEND_RS_STORE", "shm:///path", "redis://", "password"):
        assert part in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_help_names_the_commands_and_the_exit_codes() -> None:
    done = side_car("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for part in (*COMMANDS, "Exit codes: 0 "):
        assert part in done.stdout


def test_the_command_has_a_script_of_its_own() -> None:
    import pytheus_backend_rs

    for command in ([str(Path(sys.executable).with_name("pytheus-backend-rs"))], COMMAND):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=HANG)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"pytheus-backend-rs {pytheus_backend_rs.__version__}\n"


def test_a_package_without_its_program_says_so(tmp_path: Path) -> None:
    source = f"import pytheus_backend_rs.__main__ as m; m.__file__ = {str(tmp_path / 'm.py')!r}; m.main()"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source],
        capture_output=True,
        text=True,
        timeout=HANG,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert_one_sentence(done, 1, f"neither {tmp_path}", "install")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("dmp",),
        ("dump",),
        ("dump", "--bogus"),
        ("dump", "--store", "mysql://h"),
        ("dump", "--store", "redis://h?bogus=1"),
        ("dump", "--store", "no:url"),
        ("dump", "--store", "memory:"),
        ("dump", "--store", "shm:///m", "--json", "--format", "text"),
        ("serve", "--store", "shm:///m", "--listen", "nowhere"),
        ("serve", "--store", "shm:///m", "--listen", "127.0.0.1:99999"),
        ("serve", "--store", "shm:///m", "--listen", "unix:relative"),
        ("serve", "--store", "shm:///m", "--socket-mode", "rw"),
        ("dump", "--store", "shm:///m", "--store", "memory:"),
        ("top", "--store", "shm:///m", "--interval", "0"),
        ("top", "--store", "shm:///m", "--count", "0"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = side_car(*arguments)
    assert_one_sentence(done, 2)
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["dump", "check"])
def test_a_missing_server_is_one_sentence_and_exit_code_1(command: str) -> None:
    port = free_port()
    done = side_car(command, "--store", f"redis://127.0.0.1:{port}")
    assert_one_sentence(done, 1, f"127.0.0.1:{port}", "refused")


@pytest.mark.parametrize("command", ["dump", "check"])
def test_a_missing_file_is_one_sentence_and_exit_code_1_and_is_not_created(
    command: str, tmp_path: Path
) -> None:
    done = side_car(command, "--store", f"shm://{tmp_path}/metrics")
    assert_one_sentence(done, 1, f"{tmp_path}/metrics", "there is no metrics file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("start", ["continue", "reset"])
def test_a_store_url_that_would_make_or_replace_the_file_is_refused(tmp_path: Path, start: str) -> None:
    store = file_store(tmp_path / "metrics")
    with counting(store):
        before = (tmp_path / "metrics").stat()
        assert_one_sentence(side_car("dump", "--store", f"{store.url}?start={start}"), 2, '"start"')
        assert (tmp_path / "metrics").stat().st_ino == before.st_ino


def test_a_password_is_never_shown(start_server: Callable[..., Server]) -> None:
    server = start_server("--requirepass", "s3cret")
    wrong = f"redis://user:wr0ng-s3cret@127.0.0.1:{server.port}"
    right = f"redis://:s3cret@127.0.0.1:{server.port}"
    runs = [side_car(command, "--store", wrong) for command in ("dump", "check")]
    runs += [side_car(command, store=wrong) for command in ("dump", "check")]
    runs += [side_car("top", "--interval", "0.1", "--count", "1", "--store", wrong)]
    assert [done.returncode for done in runs] == [1] * 5
    runs += [side_car(command, "--verbose", store=right) for command in ("dump", "check")]
    assert [done.returncode for done in runs[5:]] == [0, 0]
    # In the wrong place, or misspelled.
    runs += [
        side_car(*arguments)
        for arguments in (
            (right,),
            ("dump", right),
            ("dump", "--stor", right),
            (f"--store={right}", "dump"),
            ("dump", "--store", right.replace("/", "")),
            ("dump", "--store", f"{right}/x?y=z"),
            ("dump", "--store", f"redis://127.0.0.1:{server.port}?pasword=s3cret"),
            ("serve", "--listen", right, "--store", right),
            ("top", "--interval", right, "--store", right),
        )
    ]
    assert [done.returncode for done in runs[7:]] == [2] * 9
    for done in runs:
        assert "s3cret" not in done.stdout + done.stderr, done.args
    with serving("--verbose", url=wrong) as (process, url):
        status, body = scrape(url)
        assert status == 503 and "s3cret" not in body
        process.terminate()
        _, errors = process.communicate(timeout=HANG)
        assert "WRONGPASS" in errors and "s3cret" not in errors


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"not a metrics file " * 999, "it is no metrics file"), (b"", "it is empty"), (b"PYTHEUSM", "cut off")],
)
@pytest.mark.parametrize("command", ["check", "dump"])
def test_a_foreign_file_is_refused_and_left_alone(
    tmp_path: Path, command: str, content: bytes, reason: str
) -> None:
    path = tmp_path / "metrics"
    path.write_bytes(content)
    assert_one_sentence(side_car(command, "--store", f"shm://{path}"), 1, str(path), reason)
    assert path.read_bytes() == content
