"""`SharedMemoryBackend` without a path: all processes of one service find one file, and other services do
not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import programs
from programs import run_program, running
from waiting import wait_until
from web_servers import APPLICATIONS, serving

WORKERS = 3
REQUESTS = 60

PRELUDE = (
    programs.PRELUDE
    + """
from pytheus_backend_rs import SharedMemoryBackend
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")

def own_files():
    with open("/proc/self/maps") as maps:
        return sorted({line.split()[5] for line in maps if "/pytheus-backend-rs-" in line})
"""
)

APPLICATION = (
    """
import os
from pytheus.backends import load_backend
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter
from pytheus_backend_rs import SharedMemoryBackend

load_backend(SharedMemoryBackend)
REQUESTS = Counter("requests_total", "Requests.")

def answer(path):
    if path == "/metrics":
        return generate_metrics().encode()
    REQUESTS.inc()
    return b"ok"
"""
    + APPLICATIONS
)

SERVERS = {
    "gunicorn": "gunicorn --workers {workers} --bind 127.0.0.1:{port} app:application",
    "gunicorn --preload": "gunicorn --preload --workers {workers} --bind 127.0.0.1:{port} app:application",
    "uvicorn": "uvicorn --workers {workers} --port {port} app:asgi",
    "hypercorn": "hypercorn --workers {workers} --bind 127.0.0.1:{port} app:asgi",
    "granian": "granian --interface asgi --workers {workers} --port {port} app:asgi",
    "granian wsgi": "granian --interface wsgi --workers {workers} --port {port} app:application",
    "uwsgi": "uwsgi --master --die-on-term --processes {workers} --http-socket 127.0.0.1:{port} -w app:application",
    "uwsgi --lazy-apps":
        "uwsgi --lazy-apps --master --die-on-term --processes {workers} --http-socket 127.0.0.1:{port} "
        "-w app:application",
}  # fmt: skip


@pytest.mark.parametrize("name", list(SERVERS))
def test_all_workers_of_a_server_show_one_number(name: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION, encoding="utf-8")
    with serving(SERVERS[name], tmp_path, WORKERS) as server:
        counted: list[str] = []

        def two_workers_have_counted() -> bool:
            counted.append(server.get("/")[0])
            return len(counted) >= REQUESTS and len(set(counted)) > 1

        wait_until(two_workers_have_counted, "two workers have counted")
        expected = f"requests_total {float(len(counted))}\n"
        shown: set[str] = set()

        def two_workers_have_shown() -> bool:
            worker, text = server.get("/metrics")
            assert expected in text, f"{worker} shows {text}, expected {expected}"
            shown.add(worker)
            return len(shown) > 1

        wait_until(two_workers_have_shown, "two workers have shown the number")
        assert "may count in files of their own" not in server.text


@pytest.mark.parametrize("config", [{}, {"start": "reset"}], ids=["continue", "reset"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_count_in_the_file_of_their_service(
    method: str, config: dict[str, Any]
) -> None:
    """Children that import the program again load the backend again, with the same options."""
    output = run_program(
        f"""
        import multiprocessing
        load_backend(SharedMemoryBackend, config)
        counter = Counter("requests_total", "help")
        context = multiprocessing.get_context({method!r})
        def work(children):
            counter.inc(10)
            run(children)
        def run(counts):
            children = [context.Process(target=work, args=(counts[1:],)) for _ in range(counts[0])] if counts else []
            for child in children:
                child.start()
            for child in children:
                child.join()
                assert child.exitcode == 0
        if __name__ == "__main__":
            counter.inc(1)
            run([2, 1])
            (name,) = own_files()
            assert os.path.exists(name), "a child has removed it"
            print(name, counter._metric_value_backend.get())
        """,
        config,
        prelude=PRELUDE,
    )
    name, value = output.split()
    assert value == "41.0"
    assert not os.path.exists(name), "the last process has left it"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_find_the_file_of_their_siblings_though_the_parent_has_none(method: str) -> None:
    """As the workers of a server whose master never loads the application; a grandchild is as far."""
    output = run_program(
        f"""
        import multiprocessing
        context = multiprocessing.get_context({method!r})
        def work(depth):
            if depth:
                child = context.Process(target=work, args=(depth - 1,))
                child.start()
                child.join()
                assert child.exitcode == 0
            load_backend(SharedMemoryBackend)
            counter = Counter("requests_total", "help")
            counter.inc()
            print(own_files()[0], int(counter._metric_value_backend.get()), flush=True)
        if __name__ == "__main__":
            for depth in (0, 2, 1):
                child = context.Process(target=work, args=(depth,))
                child.start()
                child.join()
                assert child.exitcode == 0
        """,
        {},
        prelude=PRELUDE,
    )
    names, values = zip(*(line.split() for line in output.splitlines()), strict=True)
    assert len(set(names)) == 1
    assert values == ("1", "2", "3", "4", "5", "6")
    # The first process of the service never had it: the next service removes it.
    run_program("load_backend(SharedMemoryBackend)", {}, prelude=PRELUDE)
    assert not os.path.exists(names[0])


def test_a_program_that_another_one_starts_has_a_file_of_its_own() -> None:
    output = run_program(
        """
        import subprocess
        JOB = '''if True:
            from pytheus.backends import load_backend
            from pytheus.metrics import Counter
            from pytheus_backend_rs import SharedMemoryBackend
            load_backend(SharedMemoryBackend)
            jobs = Counter("requests_total", "help")
            jobs.inc(10)
            print(jobs._metric_value_backend.get(), flush=True)
        '''
        load_backend(SharedMemoryBackend)
        counter = Counter("requests_total", "help")
        counter.inc()
        for _ in range(2):
            subprocess.run([sys.executable, "-c", JOB], check=True)
            child = os.fork()
            if child == 0:
                counter.inc()
                os.execv(sys.executable, [sys.executable, "-c", JOB])
            assert os.waitpid(child, 0)[1] == 0
        print(counter._metric_value_backend.get())
        """,
        {},
        prelude=PRELUDE,
    )
    assert output.split() == ["10.0", "10.0", "10.0", "10.0", "3.0"]


def test_a_program_that_replaces_itself_by_exec_keeps_its_file_and_removes_it() -> None:
    output = run_program(
        """
        load_backend(SharedMemoryBackend)
        counter = Counter("requests_total", "help")
        counter.inc(1)
        if "again" not in sys.argv:
            os.execv(sys.executable, [sys.executable, __file__, "again"])
        print(own_files()[0], counter._metric_value_backend.get())
        """,
        {},
        prelude=PRELUDE,
    )
    name, value = output.split()
    assert value == "2.0"
    assert not os.path.exists(name)


def test_a_daemon_and_what_it_starts_count_in_the_file_of_the_process_that_loaded_the_backend() -> None:
    output = run_program(
        """
        import multiprocessing
        context = multiprocessing.get_context("spawn")
        def work():
            load_backend(SharedMemoryBackend)
            Counter("requests_total", "help").inc(10)
        if __name__ == "__main__":
            load_backend(SharedMemoryBackend)
            counter = Counter("requests_total", "help")
            counter.inc()
            reader, writer = os.pipe()
            if os.fork() == 0:
                os.setsid()
                if os.fork():
                    os._exit(0)
                os.read(reader, 1)
                # Another service starts, and removes what others have left.
                import subprocess
                job = "from pytheus_backend_rs import SharedMemoryBackend as S; "
                job += "from pytheus.backends import load_backend; load_backend(S)"
                subprocess.run([sys.executable, "-c", job], check=True)
                child = context.Process(target=work)
                child.start()
                child.join()
                print(own_files()[0], counter._metric_value_backend.get(), flush=True)
                sys.exit(0)
            os.write(writer, b"x")
            os._exit(0)
        """,
        {},
        prelude=PRELUDE,
    )
    name, value = output.split()
    assert value == "11.0"
    assert not os.path.exists(name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_killed_service_has_left_is_removed_by_the_next(number: signal.Signals) -> None:
    source = """
        load_backend(SharedMemoryBackend)
        Counter("requests_total", "help").inc()
        print(*own_files(), flush=True)
        sys.stdin.readline()
    """
    with running(source, {}, prelude=PRELUDE) as killed, running(source, {}, prelude=PRELUDE) as living:
        left, used = killed.line(), living.line()
        assert left != used
        killed.process.send_signal(number)
        killed.process.wait()
        assert os.path.exists(left)
        run_program("load_backend(SharedMemoryBackend)", {}, prelude=PRELUDE)
        assert not os.path.exists(left)
        assert os.path.exists(used), "the file of a service that runs was removed"
        living.say()
        assert living.finish().returncode == 0
    assert not os.path.exists(used)


def test_a_helper_in_a_pid_namespace_of_its_own_leaves_the_file_of_the_application() -> None:
    """The helper has process id 1. So had the application, in the namespace of its container."""
    source = """
        load_backend(SharedMemoryBackend)
        print(os.getpid(), *own_files(), flush=True)
        sys.stdin.readline()
        print(*own_files(), os.path.exists(own_files()[0]), flush=True)
    """
    helper = textwrap.dedent(PRELUDE) + "load_backend(SharedMemoryBackend); print(os.getpid(), *own_files())"
    with running(source, {}, prelude=PRELUDE) as application:
        _, name = application.line().split()
        command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", helper]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "TEST_CONFIG": "{}"}
        )
        pid, of_helper = done.stdout.split()
        assert pid == "1"
        assert of_helper != name
        application.say()
        assert application.line().split() == [name, "True"]


def test_workers_of_another_user_than_their_parent_find_one_file() -> None:
    """A server that root has started. The workers may not see the parent's addresses."""
    output = run_program(
        """
        # The other user may not be able to read what would be imported later.
        import importlib.metadata
        importlib.metadata.version("pytheus")
        for _ in range(3):
            child = os.fork()
            if child == 0:
                os.setgid(65534)
                os.setuid(65534)
                load_backend(SharedMemoryBackend)
                counter = Counter("requests_total", "help")
                counter.inc()
                print(own_files()[0], int(counter._metric_value_backend.get()), flush=True)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        """,
        {},
        prelude=PRELUDE,
    )
    lines = [line.split() for line in output.splitlines()]
    assert [value for _, value in lines] == ["1", "2", "3"], output
    os.unlink(lines[0][0])


def test_a_process_that_cannot_see_its_service_says_which_option_to_set() -> None:
    output = run_program(
        """
        import importlib.metadata
        importlib.metadata.version("pytheus")
        from setproctitle import setproctitle
        child = os.fork()
        if child == 0:
            os.setgid(65534)
            os.setuid(65534)
            setproctitle("worker")
            load_backend(SharedMemoryBackend)
            counter = Counter("requests_total", "help")
            counter.inc()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """,
        {},
        prelude=PRELUDE,
    )
    assert output.count("WARNING") == 1, output
    assert "may count in files of their own" in output and 'set the option "path"' in output


def test_where_no_file_can_be_made_one_warning_says_so_and_the_program_counts_on() -> None:
    program = textwrap.dedent(PRELUDE) + textwrap.dedent("""
        load_backend(SharedMemoryBackend)
        counter = Counter("requests_total", "help")
        counter.inc(3)
        print(generate_metrics())
    """)
    mounts = "mount -t tmpfs -o ro none /dev/shm && exec"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{mounts} "$0" -c "$1"', sys.executable, program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TEST_CONFIG": "{}", "TMPDIR": "/proc"},
    )
    assert done.stdout.count("WARNING") == 1, done.stdout
    assert "counts by itself" in done.stdout and 'set the option "path"' in done.stdout
    assert "\nrequests_total 3.0\n" in done.stdout


@pytest.mark.parametrize("has_path", [True, False], ids=["path", "no path"])
def test_without_proc_forked_children_make_metrics_and_a_missing_path_is_named(
    has_path: bool, tmp_path: Path
) -> None:
    program = textwrap.dedent(PRELUDE) + textwrap.dedent("""
        load_backend(SharedMemoryBackend, config)
        counter = Counter("requests_total", "help", required_labels=["worker"])
        for worker in range(3):
            child = os.fork()
            if child == 0:
                counter.labels({"worker": str(worker)}).inc()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        print(generate_metrics())
    """)
    config = {"path": str(tmp_path / "metrics")} if has_path else {}
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            'mount -t tmpfs none /proc && exec "$0" -c "$1"',
            sys.executable,
            program,
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TEST_CONFIG": json.dumps(config)},
    )
    assert done.stdout.count("\nrequests_total{") == 3, done.stdout + done.stderr
    assert done.stdout.count("WARNING") == (0 if has_path else 1)
    assert ('set the option "path"' in done.stdout) != has_path


def test_the_file_is_in_the_temporary_directory_where_there_is_no_dev_shm(tmp_path: Path) -> None:
    folder = tmp_path / ("f\N{LATIN SMALL LETTER U WITH DIAERESIS} " + "x" * 200)
    folder.mkdir()
    program = textwrap.dedent(PRELUDE) + textwrap.dedent("""
        load_backend(SharedMemoryBackend)
        counter = Counter("requests_total", "help")
        counter.inc()
        child = os.fork()
        if child == 0:
            load_backend(SharedMemoryBackend)
            Counter("requests_total", "help", registry=CollectorRegistry()).inc()
            os._exit(0)
        os.waitpid(child, 0)
        print(counter._metric_value_backend.get(), os.listdir(os.environ["TMPDIR"]))
    """)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o ro none /dev/shm && exec "$0" -c "$1"',
         sys.executable, program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TEST_CONFIG": "{}", "TMPDIR": str(folder)},
    )  # fmt: skip
    assert done.stdout.startswith("2.0 ['pytheus-backend-rs-"), done.stdout + done.stderr
    assert list(folder.iterdir()) == []


def test_a_file_that_was_removed_while_workers_use_it_is_named_once() -> None:
    output = run_program(
        """
        load_backend(SharedMemoryBackend)
        counter = Counter("requests_total", "help")
        counter.inc()
        os.unlink(own_files()[0])
        for _ in range(3):
            assert "requests_total 1.0" in generate_metrics()
        """,
        {},
        prelude=PRELUDE,
    )
    assert output.count("WARNING") == 1, output
    assert "was removed or replaced" in output


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
