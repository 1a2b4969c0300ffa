"""A program that PyInstaller has bundled: it counts, and its scrapes show it, without an installed Python
package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from programs import HANG

PROGRAM = """
import sys, urllib.request
from pytheus.backends import load_backend
from pytheus.metrics import Counter
from pytheus_backend_rs import SharedMemoryBackend, generate_metrics, start_http_server

load_backend(SharedMemoryBackend, {"path": sys.argv[1]})
Counter("requests_total", "help").inc(3)
print(generate_metrics().splitlines()[-1])
with_exporter = start_http_server()
print(urllib.request.urlopen(f"http://127.0.0.1:{with_exporter.port}/metrics").read().decode().splitlines()[-1])
"""


def test_a_bundled_program_counts_and_is_scraped(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, "-m", "PyInstaller", "--log-level", "WARN", "service.py"]
    # Its cache would otherwise stay in the home folder of the user.
    environment = {**os.environ, "PYINSTALLER_CONFIG_DIR": str(tmp_path / "cache")}
    built = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert built.returncode == 0, built.stderr
    bundled = [str(tmp_path / "dist" / "service" / "service"), str(tmp_path / "metrics")]
    done = subprocess.run(bundled, env={}, capture_output=True, text=True, timeout=HANG)
    assert (done.returncode, done.stdout) == (0, "requests_total 3\n" * 2), done.stderr
