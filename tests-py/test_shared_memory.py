"""`SharedMemoryBackend`: one file, and all processes that count in it.

What it has in common with the other classes is in test_protocol.py. Sums are compared exactly: amounts are
such that doubles add up without rounding.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytheus import backends
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter, CustomCollector, Gauge, Histogram, Summary
from pytheus.registry import REGISTRY, CollectorRegistry
from pytheus_backend_rs import (
    ConfigurationError,
    ConflictError,
    SharedMemoryBackend,
    SingleProcessAtomicBackend,
    StoreError,
    _private_file,
)

import programs
from programs import run_program, running

ROOT = Path(__file__).resolve().parent.parent

PRELUDE = programs.PRELUDE + f"""
from pytheus_backend_rs import SharedMemoryBackend
VARIABLE = {_private_file.VARIABLE!r}
"""

MEBIBYTE = 1 << 20


@pytest.fixture(autouse=True)
def no_inherited_file() -> Iterator[None]:
    """What these tests find without a path is their own."""
    os.environ.pop(_private_file.VARIABLE, None)
    yield
    os.environ.pop(_private_file.VARIABLE, None)


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


# --- Where the file is ----------------------------------------------------------------------------------


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


# --- Without a path: a private file ---------------------------------------------------------------------


@pytest.mark.parametrize(("ending", "code"), [("", 0), ("sys.exit(3)", 3), ("raise RuntimeError('end')", 1)])
def test_a_private_file_is_made_and_removed_at_the_end(ending: str, code: int) -> None:
    output = run_program(
        f"""
        load_backend(SharedMemoryBackend, {{}})
        load_backend(SharedMemoryBackend)
        Counter("requests_total", "help").inc(2)
        assert "requests_total 2.0\\n" in generate_metrics()
        name = os.environ[VARIABLE]
        print(name, oct(os.stat(name).st_mode), flush=True)
        {ending}
        """,
        {},
        prelude=PRELUDE,
        code=code,
    )
    name, mode = output.split()[:2]
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
    assert os.path.dirname(name) == folder
    assert mode == "0o100600"
    assert not os.path.exists(name)


def test_a_private_file_is_in_the_temp_directory_where_there_is_no_dev_shm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert os.path.dirname(_private_file.path()) == tempfile.gettempdir()


def test_the_environment_variable_of_pytheus_is_enough_to_share_with_children() -> None:
    output = run_program(
        """
        import os
        from pytheus.backends import load_backend
        load_backend()
        from pytheus.metrics import Counter
        counter = Counter("requests_total", "help")
        for _ in range(3):
            child = os.fork()
            if child == 0:
                counter.inc()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        print(type(counter._metric_value_backend).__name__, counter._metric_value_backend.get())
        """,
        {},
        prelude="",
        environment={"PYTHEUS_BACKEND_CLASS": "pytheus_backend_rs.SharedMemoryBackend"},
    )
    assert output == "SharedMemoryBackend 3.0\n"


@pytest.mark.parametrize("config", [{}, {"start": "reset"}], ids=["continue", "reset"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_count_in_the_private_file(method: str, config: dict[str, Any]) -> None:
    """Those that import the program again load the backend again, with the same options."""
    output = run_program(
        f"""
        import multiprocessing
        load_backend(SharedMemoryBackend, config)
        counter = Counter("requests_total", "help")
        def work():
            counter.inc(10)
        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            counter.inc(1)
            children = [context.Process(target=work) for _ in range(3)]
            for child in children:
                child.start()
            for child in children:
                child.join()
                assert child.exitcode == 0
            name = os.environ[VARIABLE]
            assert os.path.exists(name), "a child has removed it"
            print(name, counter._metric_value_backend.get())
        """,
        config,
        prelude=PRELUDE,
    )
    name, value = output.split()
    assert value == "31.0"
    assert not os.path.exists(name)


def test_children_by_fork_and_exec_count_in_the_private_file_and_leave_it() -> None:
    output = run_program(
        """
        import subprocess
        PROGRAM = '''if True:
            import sys
            from pytheus.backends import load_backend
            from pytheus.metrics import Counter
            from pytheus_backend_rs import SharedMemoryBackend
            load_backend(SharedMemoryBackend, {})
            Counter("requests_total", "help").inc(10)
            sys.exit(0)
        '''
        load_backend(SharedMemoryBackend, {})
        name = os.environ[VARIABLE]
        counter = Counter("requests_total", "help")
        for _ in range(2):
            subprocess.run([sys.executable, "-c", PROGRAM], check=True)
            assert os.path.exists(name), "a child by exec has removed it"
            child = os.fork()
            if child == 0:
                counter.inc(1)
                sys.exit(0)
            assert os.waitpid(child, 0)[1] == 0
            assert os.path.exists(name), "a child by fork has removed it"
        print(name, counter._metric_value_backend.get())
        """,
        {},
        prelude=PRELUDE,
    )
    name, value = output.split()
    assert value == "22.0"
    assert not os.path.exists(name)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_that_is_the_first_to_load_removes_its_file(method: str) -> None:
    output = run_program(
        f"""
        import multiprocessing
        def work(names):
            load_backend(SharedMemoryBackend, {{}})
            Counter("requests_total", "help").inc()
            assert os.path.exists(os.environ[VARIABLE])
            names.put(os.environ[VARIABLE])
        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            names = context.SimpleQueue()
            child = context.Process(target=work, args=(names,))
            child.start()
            child.join()
            assert child.exitcode == 0
            name = names.get()
            print(os.path.exists(name))
        """,
        {},
        prelude=PRELUDE,
    )
    assert output == "False\n"


def test_a_program_that_replaces_itself_by_exec_keeps_its_file_and_removes_it() -> None:
    output = run_program(
        """
        load_backend(SharedMemoryBackend, {})
        counter = Counter("requests_total", "help")
        counter.inc(1)
        if "again" not in sys.argv:
            os.execv(sys.executable, [sys.executable, __file__, "again"])
        print(os.environ[VARIABLE], counter._metric_value_backend.get())
        """,
        {},
        prelude=PRELUDE,
    )
    name, value = output.split()
    assert value == "2.0"
    assert not os.path.exists(name)


def test_a_process_that_outlives_the_maker_of_the_file_does_not_make_it_again(path: Path) -> None:
    """Nobody would remove it."""
    output = run_program(
        """
        load_backend(SharedMemoryBackend, {})
        Counter("requests_total", "help").inc()
        print(os.environ[VARIABLE], os.path.exists(os.environ[VARIABLE]))
        """,
        {},
        prelude=PRELUDE,
        environment={_private_file.VARIABLE: str(path)},
    )
    name, exists = output.split()
    assert exists == "True"
    assert not path.exists() and not os.path.exists(name)


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


def test_the_size_limit_is_an_error_that_names_the_file_and_spoils_nothing(
    path: Path, load: Callable[..., None]
) -> None:
    load(size_limit=MEBIBYTE)
    counter = Counter("requests_total", "help", required_labels=["path"])
    with pytest.raises(StoreError, match=f"{re.escape(str(path))}.*size limit.*{MEBIBYTE}"):
        for number in range(100_000):
            counter.labels(path=f"{number:0>64}").inc()
    made = number
    assert 1000 < made < MEBIBYTE / 64
    assert path.stat().st_size == MEBIBYTE
    first = counter.labels(path=f"{0:0>64}")
    first.inc()
    assert value_of(first) == 2
    assert generate_metrics().count("requests_total{") == made
    with pytest.raises(StoreError, match="size limit"):
        load(size_limit=64 * MEBIBYTE)
        Counter("another_total", "help", required_labels=["path"]).labels(path=64 * "x")


BAD_OPTIONS: list[dict[str, Any]] = [
    {"path": 5},
    {"path": ""},
    {"path": b"metrics"},
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
    elif name == "mode" and isinstance(value, int):
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


def cut_off(path: Path) -> None:
    backends.load_backend(SharedMemoryBackend, {"path": path})
    backends.load_backend()
    os.truncate(path, 4096)


def of_another_owner(path: Path) -> None:
    backends.load_backend(SharedMemoryBackend, {"path": path})
    backends.load_backend()
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        # Nobody but root can give a file away; for others it may as well be a file that they cannot open.
        path.chmod(0)


UNUSABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "directory": (Path.mkdir, "Is a directory"),
    "empty": (Path.touch, "empty"),
    "garbage": (lambda path: path.write_bytes(os.urandom(2 * MEBIBYTE)), "no metrics file"),
    "text": (lambda path: path.write_text("requests_total 5\n"), "no metrics file"),
    "cut off": (cut_off, "cut off"),
    "symbolic link": (lambda path: path.symlink_to("/dev/null"), "symbolic link"),
    "dangling link": (lambda path: path.symlink_to("nowhere"), "symbolic link"),
    "pipe": (os.mkfifo, "no regular file"),
    "another owner": (of_another_owner, "belongs to the user 12345|Permission denied"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_file_that_cannot_be_used_is_an_error_that_names_it_and_the_reason(
    path: Path, load: Callable[..., None], what: str
) -> None:
    make, reason = UNUSABLE[what]
    make(path)
    before = os.lstat(path)
    with pytest.raises(StoreError, match=f"{re.escape(str(path))} .*({reason})") as caught:
        load()
    assert isinstance(caught.value, RuntimeError)
    after = os.lstat(path)
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size), "it was left alone"
    assert os.listdir(path.parent) == ["metrics"]


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

DECLARATIONS = """
    counter = Counter("requests_total", "help", required_labels=["path"])
    gauge = Gauge("level", "help")
    histogram = Histogram("size", "help", buckets=[0.5, 1, 10.0])
    summary = Summary("latency", "help", required_labels=["a"])
"""


def test_changes_are_seen_at_once_in_both_directions(path: Path, load: Callable[..., None]) -> None:
    program = f"""
    load_backend(SharedMemoryBackend, config)
    {DECLARATIONS}
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
            assert f"size_sum {5.75 * turn}\nsize_count {2 * turn}.0\n" in text
            assert f'latency_sum{{a="x"}} {4.25 * turn}\nlatency_count{{a="x"}} {2 * turn}.0\n' in text


def test_a_process_that_only_declares_shows_what_others_have_counted(
    path: Path, load: Callable[..., None]
) -> None:
    program = f"""
    load_backend(SharedMemoryBackend, config)
    {DECLARATIONS}
    for name in ("/b", "/a", "/é"):
        counter.labels(path=name).inc(2)
    gauge.set(-1.5)
    histogram.observe(0.75)
    summary.labels(a="x").observe(2)
    """
    run_sharing(program, path)
    load()
    Counter("requests_total", "help", required_labels=["path"])
    Gauge("level", "help")
    Histogram("size", "help", buckets=[0.5, 1, 10.0])
    Summary("latency", "help", required_labels=["a"])
    assert (
        generate_metrics()
        == """\
# HELP requests_total help
# TYPE requests_total counter
requests_total{path="/a"} 2.0
requests_total{path="/b"} 2.0
requests_total{path="/é"} 2.0
# HELP level help
# TYPE level gauge
level -1.5
# HELP size help
# TYPE size histogram
size_bucket{le="0.5"} 0.0
size_bucket{le="1"} 1.0
size_bucket{le="10.0"} 1.0
size_bucket{le="+Inf"} 1.0
size_sum 0.75
size_count 1.0
# HELP latency help
# TYPE latency summary
latency_sum{a="x"} 2.0
latency_count{a="x"} 1.0
"""
    )


def count_everything() -> str:
    """Uses every operation, and returns the scrape."""
    REGISTRY.set_registry(CollectorRegistry())
    counter = Counter("requests_total", "It's \"help\"\\\n.", required_labels=["path", "host"])
    for number in range(20):
        counter.labels(path=f"/{number % 7}é\"\\\n", host="x").inc(number / 4)
    plain = Gauge("level", "help")
    plain.set(1e300)
    plain.set(-0.0)
    plain.dec(2.5)
    special = Gauge("special", "help", required_labels=["a"])
    for value in ("inf", "-inf", "nan", "1e-320"):
        special.labels(a=value).set(float(value))
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
    assert shared == count_everything()


@pytest.mark.parametrize(
    "declaration",
    [
        'Gauge("size", "help")',
        'Histogram("size", "help", ["a"]).labels(a="x")',
        'Histogram("size", "help", buckets=[1, 3])',
    ],
    ids=["type", "labels", "bounds"],
)
def test_a_definition_that_conflicts_with_another_process_is_refused(
    path: Path, load: Callable[..., None], declaration: str
) -> None:
    load()
    histogram = Histogram("size", "help", buckets=[1, 2])
    histogram.observe(1)
    output = run_sharing(
        f"""
        from pytheus_backend_rs import ConflictError
        load_backend(SharedMemoryBackend, config)
        other = Counter("requests_total", "help")
        try:
            {declaration}
        except ConflictError as error:
            print(error)
        other.inc()
        assert "requests_total 1.0\\n" in generate_metrics()
        """,
        path,
    )
    assert '"size"' in output and "histogram" in output
    histogram.observe(1)
    assert "size_count 2.0\n" in generate_metrics()


def test_a_conflict_outlives_the_process_that_declared_the_family(
    path: Path, load: Callable[..., None]
) -> None:
    run_sharing('load_backend(SharedMemoryBackend, config); Histogram("size", "help").observe(1)', path)
    load()
    with pytest.raises(ConflictError, match='"size".*histogram'):
        Gauge("size", "help", registry=None)
    load(start="reset")
    Gauge("size", "help", registry=None).set(1)


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


# --- Many processes -------------------------------------------------------------------------------------


def test_a_tree_of_forks_counts_one_true_number(path: Path) -> None:
    """Threads count and make metrics while their process forks; children and grandchildren do the same."""
    output = run_sharing(
        """
        load_backend(SharedMemoryBackend, config)
        counter = Counter("requests_total", "help")
        labelled = Counter("labelled_total", "help", required_labels=["depth", "number"])
        def count(depth):
            for number in range(1000):
                counter.inc()
                labelled.labels(depth=depth, number=number % 50).inc()
        def fork(depth, width):
            counting = [threading.Thread(target=count, args=(depth,)) for _ in range(2)]
            for thread in counting:
                thread.start()
            children = []
            for _ in range(width):
                child = os.fork()
                if child == 0:
                    if depth < 2:
                        fork(depth + 1, 2)
                    else:
                        count(3)
                        assert "requests_total" in generate_metrics()
                    sys.exit(0)
                children.append(child)
            for thread in counting:
                thread.join()
            for child in children:
                assert os.waitpid(child, 0)[1] == 0
        fork(0, 3)
        print(generate_metrics())
        """,
        path,
    )
    # Threads: 1 root, 3 children, 6 grandchildren, 2 each; and 12 leaves that count alone.
    assert "\nrequests_total 32000.0\n" in output
    for depth, expected in enumerate((2000, 6000, 12000, 12000)):
        values = re.findall(rf'^labelled_total{{depth="{depth}",number="\d+"}} (\S+)$', output, re.MULTILINE)
        assert [float(value) for value in values] == [expected / 50] * 50


def test_a_worker_that_is_killed_has_lost_nothing_that_it_counted(path: Path) -> None:
    output = run_sharing(
        """
        import signal
        STEP = 100
        load_backend(SharedMemoryBackend, config)
        counter = Counter("requests_total", "help")
        completed = 0
        for kill in range(5):
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                while True:
                    for _ in range(STEP):
                        counter.inc()
                    os.write(writing, b".")
            os.close(writing)
            steps = len(os.read(reading, 100))
            os.kill(child, signal.SIGKILL)
            assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
            while rest := os.read(reading, 100_000):
                steps += len(rest)
            os.close(reading)
            assert steps >= 1
            completed += steps * STEP
            value = counter._metric_value_backend.get()
            # Of each that was killed, at most the step that it was at.
            assert completed <= value <= completed + (kill + 1) * STEP, (completed, value)
        counter.inc()
        assert counter._metric_value_backend.get() == value + 1
        print("nothing lost")
        """,
        path,
    )
    assert output == "nothing lost\n"


PROCESSES, INCREMENTS, OBSERVATIONS = 8, 1_000_000, 100_000


@pytest.mark.parametrize("kills", [0, 20])
def test_eight_processes_count_one_true_number(path: Path, load: Callable[..., None], kills: int) -> None:
    """Also if they are killed at random moments, and others count on where they were: each says after every
    single increment how far it has come, so that of one that is killed a single one is in doubt."""
    output = run_sharing(
        f"""
        import mmap, random, signal
        # Memory of all of them: for each worker, how often it has counted and how often it has observed.
        done = memoryview(mmap.mmap(-1, {PROCESSES} * 16)).cast("Q")
        def work(worker):
            load_backend(SharedMemoryBackend, config)
            inc = Counter("requests_total", "help").inc
            observe = Histogram("size", "help", buckets=[0.5, 1]).observe
            at, observed_at = 2 * worker, 2 * worker + 1
            counted, observed = done[at], done[observed_at]
            while counted < {INCREMENTS} or observed < {OBSERVATIONS}:
                if observed < counted // {INCREMENTS // OBSERVATIONS}:
                    observe(0.25)
                    observed += 1
                    done[observed_at] = observed
                else:
                    inc()
                    counted += 1
                    done[at] = counted
        def start(worker):
            child = os.fork()
            if child == 0:
                work(worker)
                os._exit(0)
            return child
        workers = [start(worker) for worker in range({PROCESSES})]
        seed = random.randrange(1 << 32)
        print("seed", seed)
        chance = random.Random(seed)
        # A random moment is a random amount of what is to be done.
        for moment in sorted(chance.randrange({PROCESSES * INCREMENTS * 8 // 10}) for _ in range({kills})):
            while sum(done[::2]) < moment:
                time.sleep(0.0005)
            worker = chance.choice([n for n in range({PROCESSES}) if done[2 * n] < {INCREMENTS * 9 // 10}])
            os.kill(workers[worker], signal.SIGKILL)
            assert os.WTERMSIG(os.waitpid(workers[worker], 0)[1]) == signal.SIGKILL
            workers[worker] = start(worker)
        for worker in workers:
            assert os.waitpid(worker, 0)[1] == 0
        assert list(done) == [{INCREMENTS}, {OBSERVATIONS}] * {PROCESSES}
        """,
        path,
    )
    load()
    counter = Counter("requests_total", "help")
    histogram = Histogram("size", "help", buckets=[0.5, 1])
    increments, observations = PROCESSES * INCREMENTS, PROCESSES * OBSERVATIONS
    assert increments <= value_of(counter) <= increments + kills, output
    assert observations <= histogram._count.get() <= observations + kills, output
    assert observations / 4 <= histogram._sum.get() <= (observations + kills) / 4, output
    assert histogram._buckets is not None
    assert {bucket.get() for bucket in histogram._buckets} == {histogram._count.get()}


def test_a_thousand_processes_that_come_and_go_leave_no_more_behind_than_ten(
    path: Path, load: Callable[..., None]
) -> None:
    output = run_sharing(
        """
        AT_ONCE = 10
        def come_and_go(count):
            for _ in range(count // AT_ONCE):
                children = []
                for _ in range(AT_ONCE):
                    child = os.fork()
                    if child == 0:
                        load_backend(SharedMemoryBackend, config)
                        Counter("requests_total", "help", required_labels=["path"]).labels(path="/").inc()
                        Histogram("size", "help").observe(0.25)
                        os._exit(0)
                    children.append(child)
                for child in children:
                    assert os.waitpid(child, 0)[1] == 0
        def space():
            # The eight bytes at 64 are the end of what is used: docs/shared-memory-layout.md.
            with open(config["path"], "rb") as file:
                used = file.read(72)[64:]
            status = os.stat(config["path"])
            return status.st_size, status.st_blocks, int.from_bytes(used, "little")
        come_and_go(10)
        after_ten = space()
        come_and_go(990)
        print(json.dumps([after_ten, space()]))
        """,
        path,
    )
    after_ten, after_thousand = json.loads(output)
    assert after_ten == after_thousand
    assert os.listdir(path.parent) == ["metrics"]
    load()
    Counter("requests_total", "help", required_labels=["path"])
    Histogram("size", "help")
    text = generate_metrics()
    assert 'requests_total{path="/"} 1000.0\n' in text
    assert "size_count 1000.0\n" in text
    assert text.count("requests_total{") == 1


# --- Other languages, and the demo ----------------------------------------------------------------------


@pytest.fixture(scope="session")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example in C, linked with the engine that the package was built from."""
    command = ["cargo", "rustc", "--release", "--lib", "--locked", "--crate-type", "staticlib"]
    command += ["--message-format", "json-render-diagnostics"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=900)
    artifacts = [json.loads(line).get("filenames") or () for line in done.stdout.splitlines()]
    (library,) = [name for names in artifacts for name in names if name.endswith("libpytheus_backend_rs.a")]
    program = tmp_path_factory.mktemp("c") / "count"
    source = ROOT / "examples" / "c" / "count.c"
    compile_ = ["cc", "-std=c11", f"-I{ROOT / 'include'}", str(source), library]
    subprocess.run([*compile_, "-lpthread", "-ldl", "-lm", "-o", str(program)], check=True, timeout=120)
    return program


def test_a_c_program_and_a_python_program_count_in_one_file(
    path: Path, load: Callable[..., None], c_program: Path
) -> None:
    def count_in_c() -> str:
        done = subprocess.run(
            [str(c_program), f"shm://{path}"], stdout=subprocess.PIPE, text=True, check=True, timeout=60
        )
        return done.stdout

    # The C program makes the file, and its families.
    assert 'shop_orders_total{payment="card"} 3\n' in count_in_c()
    load()
    orders = Counter("shop_orders_total", "help", required_labels=["payment"])
    seconds = Histogram("shop_order_seconds", "help", buckets=[0.1, 0.5, 2])
    assert value_of(orders.labels(payment="card")) == 3
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
    # A family that the C program does not know, all the same.
    assert "# HELP shop_staff Who is there.\n# TYPE shop_staff gauge\nshop_staff 2.5\n" in text
    assert value_of(orders.labels(payment="card")) == 16
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
