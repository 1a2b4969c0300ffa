"""The recipes of docs/ run as they stand, but for ports and paths.

A recipe is a page with blocks that have titles. `start` is the command of a server, `try` are commands that
end, and `prints` has lines that the last `try` printed; any other title is the path of a file.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from http_client import get
from programs import HANG, python_path
from redis_server import Server
from waiting import wait_until

DOCS = Path(__file__).resolve().parent.parent / "docs"
RECIPES = [page for page in sorted(DOCS.rglob("*.md")) if 'title="try"' in page.read_text("utf-8")]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Returns title and text of the blocks of a page that have a title."""
    text = page.read_text("utf-8")
    return re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', text, re.DOTALL | re.MULTILINE)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Recipe:
    """The folder in which a recipe runs, and the server that it has started."""

    def __init__(self, folder: Path, redis_port: int) -> None:
        self._folder = folder
        self._redis_port = redis_port
        self._port = free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self._log = folder / "server.log"
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._environment = {**os.environ, "PATH": path, "PYTHONPATH": python_path(folder)}
        self.printed = ""

    def write(self, path: str, text: str) -> None:
        place = self._folder / path
        place.parent.mkdir(exist_ok=True)
        place.write_text(self._adapted(text), encoding="utf-8")

    def start(self, command: str) -> None:
        """Starts a server, after the end of the one before, and waits until it answers."""
        self.stop()
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                ["sh", "-c", f"exec {self._adapted(command)}"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, f"{command.strip()} answers")

    def run(self, commands: str) -> None:
        done = subprocess.run(
            ["sh", "-ec", self._adapted(commands)],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=HANG,
        )
        self.printed = done.stdout
        assert done.returncode == 0, f"{commands}\n{self.printed}\n{self.log}"

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8") if self._log.exists() else ""

    def stop(self) -> None:
        """Ends the server as a service manager does, by SIGTERM."""
        if self._server is None:
            return
        self._server.send_signal(signal.SIGTERM)
        try:
            self._server.wait(HANG)
        finally:
            self.kill()
        assert "Traceback" not in self.log, self.log

    def kill(self) -> None:
        if self._server is None:
            return
        try:
            os.killpg(self._server.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._server.wait()
        self._server = None

    def _answers(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, self.log
        try:
            return get(self._port, "/metrics").status == 200
        except OSError:
            return False

    def _adapted(self, text: str) -> str:
        text = text.replace("8000", str(self._port)).replace("6379", str(self._redis_port))
        return text.replace("/dev/shm/my-service-metrics", str(self._folder / "metrics"))


@pytest.fixture
def recipe(tmp_path: Path, server: Server) -> Iterator[Recipe]:
    recipe = Recipe(tmp_path, server.port)
    yield recipe
    recipe.kill()


@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_a_recipe_prints_what_it_says(recipe: Recipe, page: Path) -> None:
    for title, text in blocks(page):
        if title == "start":
            recipe.start(text)
        elif title == "try":
            recipe.run(text)
        elif title == "prints":
            for line in text.splitlines():
                assert re.search(re.escape(line) + r"(?![\d.])", recipe.printed), (
                    f"{line!r} is not in:\n{recipe.printed}\n{recipe.log}"
                )
        else:
            recipe.write(title, text)
    recipe.stop()


def test_every_recipe_is_in_the_list() -> None:
    listed = (DOCS / "recipes" / "index.md").read_text("utf-8")
    names = [page.name for page in RECIPES if page.parent.name == "recipes"]
    missing = [name for name in names if f"({name})" not in listed]
    assert not missing
