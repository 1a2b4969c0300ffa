"""Gauges of which every process has its own value: declared by this package, and by an option those of pytheus."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from pytheus import exposition
from pytheus.backends import load_backend
from pytheus.metrics import Gauge as PytheusGauge
from pytheus_backend_rs import (
    ConfigurationError,
    ConflictError,
    InvalidArgumentError,
    SharedMemoryBackend,
    SingleProcessBackend,
    generate_metrics,
    metrics,
)

from programs import running

WORKER = """
    from pytheus_backend_rs import SharedMemoryBackend
    from pytheus_backend_rs.metrics import Gauge as ModeGauge
    load_backend(SharedMemoryBackend, {**config, "gauge_modes": {"in_progress": "livesum"}})
    Gauge("in_progress", "Requests.").inc(2)
    ModeGauge("queue", "Jobs.", ["name"], multiprocess_mode="liveall").labels("mail").set(7)
    print("set", flush=True)
    sys.stdin.readline()
"""


def lines(name: str, text: str | None = None) -> list[str]:
    return [line for line in (text or generate_metrics()).splitlines() if line.startswith(name)]


def test_every_process_has_its_own_value_and_a_killed_one_is_gone(tmp_path: Path) -> None:
    config = {"path": str(tmp_path / "metrics")}
    load_backend(SharedMemoryBackend, {**config, "gauge_modes": {"in_progress": "livesum"}})
    in_progress = PytheusGauge("in_progress", "Requests.")
    queue = metrics.Gauge("queue", "Jobs.", ["name"], multiprocess_mode="liveall")
    in_progress.inc()
    queue.labels("mail").set(3)
    with running(WORKER, config) as worker:
        assert worker.line() == "set"
        assert lines("in_progress") == ["in_progress 3"]
        assert lines("in_progress", exposition.generate_metrics()) == ["in_progress 3.0"]
        assert sorted(lines("queue")) == sorted(
            f'queue{{name="mail",pid="{pid}"}} {value}'
            for pid, value in ((os.getpid(), 3), (worker.process.pid, 7))
        )
        assert queue.labels("mail").get() == 3
        worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()
        assert lines("in_progress") == ["in_progress 1"]
        assert lines("queue") == [f'queue{{name="mail",pid="{os.getpid()}"}} 3']


def test_a_forked_worker_has_a_value_of_its_own(tmp_path: Path) -> None:
    load_backend(SharedMemoryBackend, {"path": str(tmp_path / "metrics")})
    gauge = metrics.Gauge("queue", "Jobs.", multiprocess_mode="sum")
    gauge.set(5)
    child = os.fork()
    if child == 0:
        gauge.inc(2)
        os._exit(0 if gauge.get() == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert lines("queue") == ["queue 7"]


def test_a_gauge_of_pytheus_may_show_its_processes(tmp_path: Path) -> None:
    load_backend(SharedMemoryBackend, {"path": str(tmp_path / "metrics"), "gauge_modes": {"queue": "all"}})
    PytheusGauge("queue", "Jobs.", required_labels=["name"]).labels({"name": "mail"}).set(3)
    assert lines("queue") == [f'queue{{name="mail",pid="{os.getpid()}"}} 3']


def test_another_mode_is_an_error_at_the_declaration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"path": str(tmp_path / "metrics")}
    with running(WORKER, config) as worker:
        assert worker.line() == "set"
        load_backend(SharedMemoryBackend, {**config, "gauge_modes": {"in_progress": "max"}})
        with pytest.raises(ConflictError, match="with the mode liveall"):
            metrics.Gauge("queue", "Jobs.", ["name"], multiprocess_mode="all")
        with pytest.raises(ConflictError, match="with the mode liveall"):
            metrics.Gauge("queue", "Jobs.", ["name"])
        with caplog.at_level(logging.ERROR):
            PytheusGauge("in_progress", "Requests.").inc()
    (record,) = caplog.records
    assert "'in_progress' counts in this process alone" in record.getMessage()
    assert "with the mode livesum" in record.getMessage()


def test_mistakes_are_named() -> None:
    load_backend(SingleProcessBackend)
    with pytest.raises(InvalidArgumentError, match="the mode is 'odd': expected one of all, liveall, min"):
        metrics.Gauge("queue", multiprocess_mode="odd")
    with pytest.raises(InvalidArgumentError, match="pid"):
        metrics.Gauge("queue", labels=["pid"], multiprocess_mode="all")


@pytest.mark.parametrize("modes", [{"queue": "odd"}, ["queue"], "queue", {3: "all"}])
def test_the_option_is_a_dict_of_names_and_modes(modes: Any) -> None:
    with pytest.raises(ConfigurationError, match="gauge_modes"):
        load_backend(SingleProcessBackend, {"gauge_modes": modes})
