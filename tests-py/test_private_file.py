"""`SharedMemoryBackend` without a path: the processes of one service find one private file, and the process that
made it removes it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytheus_backend_rs import _private_file

import programs
from programs import run_program

PRELUDE = programs.PRELUDE + f"""
from pytheus_backend_rs import SharedMemoryBackend
VARIABLE = {_private_file.VARIABLE!r}
"""


@pytest.fixture(autouse=True)
def no_inherited_file() -> Iterator[None]:
    """Hides a private file of the process that runs the tests."""
    os.environ.pop(_private_file.VARIABLE, None)
    yield
    os.environ.pop(_private_file.VARIABLE, None)


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


def test_a_private_file_whose_maker_has_ended_is_not_made_again(tmp_path: Path) -> None:
    """No process would remove a file that was made again under the old name."""
    path = tmp_path / "metrics"
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
