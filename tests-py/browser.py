"""A headless Chromium, driven by its DevTools protocol over a pair of pipes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from programs import HANG
from waiting import wait_until

#: Chromium expects the pipes as descriptors 3 and 4, which may be taken in this process.
LAUNCHER = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for pipe, place in zip(pipes, (3, 4)):
    os.dup2(pipe, place)
os.execv(sys.argv[3], sys.argv[3:])
"""

OPTIONS = [
    "--headless=new",
    "--remote-debugging-pipe",
    # The sandbox does not run as root.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    # It opens the pages of the test, and asks no server for anything else.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "a browser is needed: install chromium"
    return path


class Browser:
    """One tab of a browser. `problems` has what the pages logged as errors since `open`."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="tests-py-browser-", ignore_cleanup_errors=True)
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        program = [find_chromium(), *OPTIONS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(commands), str(answers), *program],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(commands)
        os.close(answers)
        self._unread = b""
        self._number = 0
        self._session: str | None = None
        self._loads = 0
        self.problems: list[str] = []
        #: The addresses that the page has asked for.
        self.requests: list[str] = []
        try:
            tab = self._call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self._call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self._call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def open(self, url: str, width: int, height: int) -> None:
        """Opens a page in a window of this size, and waits until it is loaded. Below 600 it is a phone's."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.problems.clear()
        self.requests.clear()
        before = self._loads
        self._call("Page.navigate", url=url)
        while self._loads == before:
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """Returns the value of an expression in JavaScript."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """Waits until an expression in JavaScript is true, and returns its value."""
        return wait_until(lambda: self.evaluate(expression), expression)

    def screenshot(self) -> bytes:
        """Returns what the window shows, as a PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot")["data"])

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(HANG)
        os.close(self._commands)
        os.close(self._answers)
        self._profile.cleanup()

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self) -> dict[str, Any]:
        """Returns the next message of the browser, and notes what the page did."""
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], HANG)
            assert ready, f"the browser has said nothing for {HANG:.0f} s"
            data = os.read(self._answers, 1 << 16)
            assert data, f"the browser ended with {self._process.wait(HANG)}"
            self._unread += data
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        event = _EVENTS.get(message.get("method", ""))
        if event is not None:
            event(self, message["params"])
        return message

    def _loaded(self, _: dict[str, Any]) -> None:
        self._loads += 1

    def _thrown(self, parameters: dict[str, Any]) -> None:
        self.problems.append(json.dumps(parameters["exceptionDetails"]))

    def _called(self, parameters: dict[str, Any]) -> None:
        if parameters["type"] in ("error", "assert"):
            self.problems.append(json.dumps(parameters["args"]))

    def _logged(self, parameters: dict[str, Any]) -> None:
        if parameters["entry"]["level"] == "error":
            self.problems.append(json.dumps(parameters["entry"]))

    def _requested(self, parameters: dict[str, Any]) -> None:
        self.requests.append(parameters["request"]["url"])


_EVENTS: dict[str, Callable[[Browser, dict[str, Any]], None]] = {
    "Page.loadEventFired": Browser._loaded,
    "Runtime.exceptionThrown": Browser._thrown,
    "Runtime.consoleAPICalled": Browser._called,
    "Log.entryAdded": Browser._logged,
    "Network.requestWillBeSent": Browser._requested,
}


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """Runs a browser while the body of the `with` statement runs."""
    browser = Browser()
    try:
        yield browser
    finally:
        browser.close()
