"""`SharedMemoryBackend` with a path: its options, and what its processes see of each other.

What all classes have in common is in test_protocol.py, the file without a path in test_service_file.py.
Crashes, damage and limits are tested in Rust (tests/shared_memory*.rs). Amounts are chosen so that doubles
add up without rounding, and sums are compared exactly.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytheus import backends
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter, CustomCollector, Gauge, Histogram, Summary
from pytheus.registry import REGISTRY, CollectorRegistry
from pytheus_backend_rs import (
    ConfigurationError,
    SharedMemoryBackend,
    SingleProcessAtomicBackend,
    StoreError,
)

import programs
from programs import run_program, running
from waiting import wait_until

PRELUDE = programs.PRELUDE + "\nfrom pytheus_backend_rs import SharedMemoryBackend\n"

MEBIBYTE = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder / "metrics"


@pytest.fixture
def load(path: Path) -> Callable[..., None]:
    """Loads the backend on `path`, with other options."""

    def load(**options: Any) -> None:
        backends.load_backend(SharedMemoryBackend, {"path": path, **options})

    return load


def value_of(metric: Any) -> float:
    value: float = metric._metric_value_backend.get()
    return value


def run_sharing(source: str, path: Path, **options: Any) -> str:
    return run_program(source, {"path": str(path)}, prelude=PRELUDE, **options)


# --- The path -------------------------------------------------------------------------------------------


def test_a_path_is_text_or_a_path_object_and_may_be_relative(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    for spelling in (str(path), path, "metrics", Path("metrics"), f"../{path.parent.name}/./metrics"):
        backends.load_backend(SharedMemoryBackend, {"path": spelling})
        Counter("requests_total", "help", registry=None).inc()
    assert value_of(Counter("requests_total", "help", registry=None)) == 5
    assert os.listdir(path.parent) == ["metrics"]


def test_a_relative_path_is_taken_from_where_the_process_was_when_it_loaded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    backends.load_backend(SharedMemoryBackend, {"path": "metrics"})
    monkeypatch.chdir("/")
    Counter("requests_total", "help").inc(2)
    assert "requests_total 2.0\n" in generate_metrics()
    assert not Path("/metrics").exists()


@pytest.mark.parametrize("name", ["a b", "a?mode=0644", "a#b", "a%41", "a@b", "a+b&c=d", "é\n", "..."])
def test_a_path_may_have_any_characters(path: Path, name: str) -> None:
    backends.load_backend(SharedMemoryBackend, {"path": path.parent / name})
    Counter("requests_total", "help").inc()
    assert os.listdir(path.parent) == [name]


def test_a_url_names_the_file(path: Path, load: Callable[..., None]) -> None:
    backends.load_backend(SharedMemoryBackend, {"url": f"shm://{path}?mode=0640", "size_limit": MEBIBYTE})
    Counter("requests_total", "help", registry=None).inc()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    load()
    assert value_of(Counter("requests_total", "help", registry=None)) == 1


@pytest.mark.parametrize("url", ["memory:", "redis://127.0.0.1:1", "shm", "/metrics"])
def test_a_url_of_another_store_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="shm:///path"):
        backends.load_backend(SharedMemoryBackend, {"url": url})


# --- Options --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "expected"), [(None, 0o600), (0o640, 0o640), (0o666, 0o666), ("0660", 0o660), ("604", 0o604)]
)
def test_a_new_file_has_the_mode_that_was_asked_for(
    path: Path, load: Callable[..., None], mode: Any, expected: int
) -> None:
    before = os.umask(0o077)
    try:
        load(mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == expected


def test_a_start_counts_on_unless_it_is_to_reset(path: Path, load: Callable[..., None]) -> None:
    program = """
        load_backend(SharedMemoryBackend, {**config, "start": os.environ["START"]})
        counter = Counter("requests_total", "help")
        counter.inc()
        print(counter._metric_value_backend.get())
    """
    values = [
        run_sharing(program, path, environment={"START": start}).strip()
        for start in ("continue", "continue", "reset", "continue", "reset")
    ]
    assert values == ["1.0", "2.0", "1.0", "2.0", "1.0"]
    load()
    assert value_of(Counter("requests_total", "help")) == 1, "without the option it counts on"


def test_at_the_size_limit_no_metric_call_raises(path: Path, load: Callable[..., None]) -> None:
    load(size_limit=MEBIBYTE)
    counter = Counter("requests_total", "help", required_labels=["path"])
    for number in range(MEBIBYTE // 128):
        counter.labels(path=f"{number:0>64}").inc()
    held_back = SharedMemoryBackend.statistics().metrics_held_back
    assert 0 < held_back < MEBIBYTE // 128
    assert path.stat().st_size == MEBIBYTE
    counter.labels(path=f"{0:0>64}").inc()
    assert value_of(counter.labels(path=f"{0:0>64}")) == 2
    late = counter.labels(path="late")
    late.inc()
    assert value_of(late) == 1, "it counts in this process"
    assert generate_metrics().count("requests_total{") == MEBIBYTE // 128 - held_back


BAD_OPTIONS: list[dict[str, Any]] = [
    {"path": 5},
    {"path": ""},
    {"path": ["metrics"]},
    {"path": "a\0b"},
    {"path": "a\ud800"},
    {"size_limit": 0},
    {"size_limit": MEBIBYTE - 1},
    {"size_limit": (1 << 40) + 1},
    {"size_limit": -1},
    {"size_limit": 1.5},
    {"size_limit": "much"},
    {"size_limit": True},
    {"size_limit": {}},
    {"start": "anew"},
    {"start": ""},
    {"start": True},
    {"start": []},
    {"mode": True},
    {"mode": -1},
    {"mode": 0o400},
    {"mode": 0o066},
    {"mode": 0o1777},
    {"mode": "rw"},
    {"mode": "0999"},
    {"mode": 6.5},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=repr)
def test_an_option_of_a_wrong_type_or_range_is_named_with_its_value(
    path: Path, load: Callable[..., None], options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(**options)
    assert isinstance(caught.value, ValueError)
    ((name, value),) = options.items()
    if isinstance(value, bool):
        shown = str(value).lower()
    elif name == "mode" and isinstance(value, int) and value <= 0o777:
        shown = f"{value:o}"
    else:
        shown = repr(value).strip("'\"")
    assert name in str(caught.value)
    assert shown in str(caught.value)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("option", ["bogus", "flush_interval_ms", "cell"])
def test_an_unknown_option_is_named_with_those_there_are(load: Callable[..., None], option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{option}.*size_limit, start, mode"):
        load(**{option: 1})


def test_a_path_and_a_url_exclude_each_other(path: Path, load: Callable[..., None]) -> None:
    with pytest.raises(ConfigurationError, match="path and url exclude each other"):
        load(url=f"shm://{path}")


# --- Files that cannot be used --------------------------------------------------------------------------


def test_a_file_that_is_no_metrics_file_is_an_error_that_names_it(
    path: Path, load: Callable[..., None]
) -> None:
    path.write_text("requests_total 5\n")
    with pytest.raises(StoreError, match=f"{re.escape(str(path))} .*no metrics file") as caught:
        load()
    assert isinstance(caught.value, RuntimeError)
    assert path.read_text() == "requests_total 5\n"


def test_a_folder_that_is_missing_is_an_error_that_names_the_file(path: Path) -> None:
    with pytest.raises(StoreError, match=f"{re.escape(str(path))}/metrics .*(directory)"):
        backends.load_backend(SharedMemoryBackend, {"path": path / "metrics"})


def test_a_refused_load_leaves_the_old_backend_working(path: Path, load: Callable[..., None]) -> None:
    load()
    counter = Counter("requests_total", "help")
    counter.inc()
    with pytest.raises(StoreError):
        load(path=path.parent)
    with pytest.raises(ConfigurationError):
        load(bogus=1)
    counter.inc()
    assert "\nrequests_total 2.0\n" in generate_metrics()


# --- What processes see of each other -------------------------------------------------------------------


def test_changes_are_seen_at_once_in_both_directions(path: Path, load: Callable[..., None]) -> None:
    program = """
    load_backend(SharedMemoryBackend, config)
    counter = Counter("requests_total", "help", required_labels=["path"])
    gauge = Gauge("level", "help")
    histogram = Histogram("size", "help", buckets=[0.5, 1, 10.0])
    summary = Summary("latency", "help", required_labels=["a"])
    for line in sys.stdin:
        if line == "count\\n":
            counter.labels(path="/").inc(2)
            gauge.set(gauge._metric_value_backend.get() * 2)
            histogram.observe(0.75)
            summary.labels(a="x").observe(0.25)
            print("done", flush=True)
        else:
            print(json.dumps(generate_metrics()), flush=True)
    """
    load()
    counter = Counter("requests_total", "help", required_labels=["path"])
    gauge = Gauge("level", "help")
    histogram = Histogram("size", "help", buckets=[0.5, 1, 10.0])
    summary = Summary("latency", "help", required_labels=["a"])
    with running(program, {"path": str(path)}, prelude=PRELUDE) as other:
        for turn in range(1, 6):
            gauge.set(turn)
            other.say("count")
            assert other.line() == "done"
            assert value_of(counter.labels(path="/")) == 3 * turn - 1
            assert value_of(gauge) == 2 * turn
            assert histogram._sum.get() == 5.75 * turn - 5
            assert summary.labels(a="x")._count.get() == 2 * turn - 1
            counter.labels(path="/").inc()
            gauge.inc(1)
            gauge.dec(0.5)
            histogram.observe(5)
            summary.labels(a="x").observe(4)
            other.say("show")
            text = json.loads(other.line())
            assert text == generate_metrics()
            assert f'requests_total{{path="/"}} {3 * turn}.0\n' in text
            assert f"\nlevel {2 * turn}.5\n" in text
            assert f'size_bucket{{le="1"}} {turn}.0\n' in text
            assert f"size_count {2 * turn}.0\nsize_sum {5.75 * turn}\n" in text
            assert f'latency_count{{a="x"}} {2 * turn}.0\nlatency_sum{{a="x"}} {4.25 * turn}\n' in text


def count_everything() -> str:
    """Uses every operation, and returns the scrape."""
    REGISTRY.set_registry(CollectorRegistry())
    counter = Counter("requests_total", 'It\'s "help"\\\n.', required_labels=["path", "host"])
    for number in range(20):
        counter.labels(path=f'/{number % 7}é"\\\n', host="x").inc(number / 4)
    plain = Gauge("level", "help")
    plain.set(1e300)
    plain.set(-0.0)
    plain.dec(2.5)
    special = Gauge("special", "help", required_labels=["a"])
    for text in ("inf", "-inf", "nan", "1e-320"):
        special.labels(a=text).set(float(text))
    bounded = Histogram("size", "help", buckets=[0.5, 1, 1e3])
    labelled = Histogram("time", "help", required_labels=["a"], default_labels={"a": "x"})
    for value in (0.5, 0.25, 1000.0, 1e9, -1.0):
        bounded.observe(value)
        labelled.labels(a="y").observe(value)
    Summary("latency", "help").observe(0.1)
    Counter("untouched_total", "help")
    return generate_metrics()


def test_the_text_is_that_of_the_class_in_memory(load: Callable[..., None]) -> None:
    load()
    shared = count_everything()
    backends.load_backend(SingleProcessAtomicBackend, {})
    # A shared store sorts series by their labels, a store in memory shows them in the order of their making.
    assert sorted(shared.splitlines()) == sorted(count_everything().splitlines())


@pytest.mark.parametrize(
    "declaration",
    [
        'Gauge("size", "help")',
        'Histogram("size", "help", buckets=[1, 3])',
    ],
    ids=["type", "bounds"],
)
def test_a_definition_that_conflicts_with_another_process_counts_where_it_is(
    path: Path, load: Callable[..., None], declaration: str
) -> None:
    load()
    histogram = Histogram("size", "help", buckets=[1, 2])
    histogram.observe(1)
    output = run_sharing(
        f"""
        logging.basicConfig()
        load_backend(SharedMemoryBackend, config)
        other = Counter("requests_total", "help")
        {declaration}
        other.inc()
        assert "requests_total 1.0\\n" in generate_metrics()
        """,
        path,
    )
    assert "'size' counts in this process alone" in output and "histogram" in output
    histogram.observe(1)
    assert "size_count 2.0\n" in generate_metrics()


def test_a_conflict_outlives_the_process_that_declared_the_family(
    path: Path, load: Callable[..., None]
) -> None:
    run_sharing('load_backend(SharedMemoryBackend, config); Histogram("size", "help").observe(1)', path)
    load()
    assert not is_shared(Gauge("size", "help", registry=None))
    load(start="reset")
    assert is_shared(Gauge("size", "help", registry=None))


def is_shared(gauge: Any) -> bool:
    """Tells whether a gauge counts in the loaded store, and not in this process alone."""
    return gauge._metric_value_backend._family.engine is SharedMemoryBackend._engine()


class Custom(CustomCollector):
    def collect(self) -> Any:
        counter = Counter("custom_total", "help", registry=None)
        counter.inc(5)
        yield counter
        gauge = Gauge("custom_level", "help", required_labels=["a"], registry=None)
        gauge.labels(a="x").set(3)
        yield gauge


def test_what_a_custom_collector_makes_is_of_one_scrape_and_not_shared(
    path: Path, load: Callable[..., None]
) -> None:
    load()
    Counter("requests_total", "help").inc()
    REGISTRY.register(Custom())
    for _ in range(3):
        text = generate_metrics()
        assert "\nrequests_total 1.0\n" in text
        assert "\ncustom_total 5.0\n" in text
        assert '\ncustom_level{a="x"} 3.0\n' in text
    output = run_sharing(
        """
        load_backend(SharedMemoryBackend, config)
        Counter("requests_total", "help")
        Gauge("custom_total", "a name that is not taken", required_labels=["b"])
        print(generate_metrics())
        """,
        path,
    )
    assert "\nrequests_total 1.0\n" in output
    assert "5.0" not in output


def test_metrics_of_another_file_stay_in_the_scrape(path: Path, load: Callable[..., None]) -> None:
    load()
    old = Counter("old_total", "help")
    labelled = Gauge("level", "help", required_labels=["a"])
    labelled.labels(a="old").set(4)
    old.inc()
    load(path=path.parent / "other")
    new = Counter("new_total", "help")
    labelled.labels(a="new").set(5)
    old.inc()
    new.inc()
    text = generate_metrics()
    assert "\nold_total 2.0\n" in text
    assert "\nnew_total 1.0\n" in text
    assert 'level{a="old"} 4.0\n' in text
    assert 'level{a="new"} 5.0\n' in text


@pytest.mark.parametrize("replacing", ["reset", "removed"])
def test_metrics_of_a_file_that_was_replaced_stay_in_the_scrape(
    path: Path, load: Callable[..., None], replacing: str
) -> None:
    """Their process counts on in the old one, and shows it."""
    options = {"start": "reset"} if replacing == "reset" else {}
    load(**options)
    old = Counter("old_total", "help")
    old.inc()
    if replacing == "removed":
        path.unlink()
    load(**options)
    new = Counter("new_total", "help")
    old.inc()
    new.inc()
    assert "\nold_total 2.0\n" in generate_metrics()
    assert "\nnew_total 1.0\n" in generate_metrics()


def test_a_daemon_keeps_its_files_and_counts_on(tmp_path: Path) -> None:
    """`DaemonContext` closes all descriptors; then the program opens its own files under their numbers."""
    result = tmp_path / "result"
    run_program(
        """
        import daemon
        load_backend(SharedMemoryBackend, config)
        requests = Counter("requests_total", "help", required_labels=["path"])
        requests.labels({"path": "before"}).inc()
        folder = os.path.dirname(config["path"])
        with daemon.DaemonContext(working_directory=folder):
            own = [open(os.path.join(folder, f"own-{number}"), "w+b") for number in range(20)]
            for file in own:
                file.write(b"contents of the program")
                file.flush()
            for number in range(9_000):
                requests.labels({"path": str(number)}).inc()
            shown = generate_metrics().count('\\nrequests_total{')
            damaged = [file.name for file in own if file.seek(0) or file.read() != b"contents of the program"]
            with open("draft", "w") as draft:
                draft.write(f"{shown} {damaged}")
            os.rename("draft", "result")
        """,
        {"path": str(tmp_path / "metrics")},
        prelude=PRELUDE,
    )
    wait_until(result.exists, "the daemon has counted")
    assert result.read_text() == "9001 []"
