"""The examples run: the demo, and the C example beside a Python program on one file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pytheus import backends
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter, Gauge, Histogram
from pytheus_backend_rs import SharedMemoryBackend

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the C example, linked with the engine that the package was built from."""
    command = [
        "cargo",
        "build",
        "--release",
        "--lib",
        "--locked",
        "--message-format",
        "json-render-diagnostics",
    ]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=900)
    artifacts = [json.loads(line).get("filenames") or () for line in done.stdout.splitlines()]
    (library,) = [name for names in artifacts for name in names if name.endswith("libpytheus_backend_rs.a")]
    program = tmp_path_factory.mktemp("c") / "count"
    source = ROOT / "examples" / "c" / "count.c"
    compile_ = ["cc", "-std=c11", f"-I{ROOT / 'include'}", str(source), library]
    subprocess.run([*compile_, "-lpthread", "-ldl", "-lm", "-o", str(program)], check=True, timeout=120)
    return program


def test_a_c_program_and_a_python_program_count_in_one_file(tmp_path: Path, c_program: Path) -> None:
    path = tmp_path / "metrics"

    def count_in_c() -> str:
        done = subprocess.run(
            [str(c_program), f"shm://{path}"], stdout=subprocess.PIPE, text=True, check=True, timeout=60
        )
        return done.stdout

    # The C program creates the file and declares the families.
    assert 'shop_orders_total{payment="card"} 3\n' in count_in_c()
    backends.load_backend(SharedMemoryBackend, {"path": path})
    orders = Counter("shop_orders_total", "help", required_labels=["payment"])
    seconds = Histogram("shop_order_seconds", "help", buckets=[0.1, 0.5, 2])
    assert orders.labels(payment="card")._metric_value_backend.get() == 3
    orders.labels(payment="card").inc(10)
    orders.labels(payment="voucher").inc(0.5)
    seconds.observe(0.25)
    staff = Gauge("shop_staff", "Who is there.")
    staff.set(2.5)
    text = count_in_c()
    assert (
        """
shop_orders_total{payment="card"} 16
shop_orders_total{payment="cash"} 2
shop_orders_total{payment="voucher"} 0.5
"""
        in text
    )
    assert "shop_order_seconds_sum 7.875\nshop_order_seconds_count 9\n" in text
    # The C program shows a family that it has not declared.
    assert "# HELP shop_staff Who is there.\n# TYPE shop_staff gauge\nshop_staff 2.5\n" in text
    assert orders.labels(payment="card")._metric_value_backend.get() == 16
    shown = generate_metrics()
    assert 'shop_orders_total{payment="cash"} 2.0\n' in shown
    assert 'shop_order_seconds_bucket{le="0.5"} 7.0\n' in shown


@pytest.mark.parametrize("store", ["shm", "redis"])
def test_the_demo_shows_the_same_true_numbers_from_every_worker(store: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "python" / "demo.py"), store],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    rows = re.findall(r"^(http_\S+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$", done.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == [
        'http_requests_total{method="GET",path="/"}',
        'http_requests_total{method="GET",path="/cart"}',
        'http_requests_total{method="GET",path="/checkout"}',
        "http_request_duration_seconds_count",
    ]
    assert all(len(set(row[1:])) == 1 for row in rows), done.stdout
    assert rows[-1][1] == "2000"
    assert os.listdir(tmp_path) == [], "it leaves no files behind"
