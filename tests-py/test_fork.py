"""Forks of a Python program, from any thread, while other threads count: no child hangs, and the totals are
exact in parent, child and grandchild. A fork that is followed by exec starts no thread and leaves nothing
open.

The forks in the middle of every call of the library are in tests-c/test_fork_storm.c. Here the interpreter,
its fork hooks and its threads take part. A child that does not end is found by a deadline, and its stack is
printed.
"""

from __future__ import annotations

import json

from programs import PRELUDE, run_program
from shared_stores import LAZY, LOAD, SOURCE, SharedStore, counted_in

#: Gives programs `Children`, which forks children and waits for them for a bounded time. Each must end with
#: 0.
CHILDREN = (
    SOURCE
    + """
import signal
# Threads switch often, so that a fork finds them everywhere and the forking thread does not wait for long.
sys.setswitchinterval(0.0005)
class Children:
    def __init__(self, most_at_once):
        self.running, self.most_at_once = {}, most_at_once
    def fork(self, what, body):
        while len(self.running) >= self.most_at_once:
            self.reap_one()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            try:
                body()
            except BaseException as problem:
                if not isinstance(problem, SystemExit):
                    import traceback
                    traceback.print_exc()
                    os._exit(3)
                raise
            os._exit(4)
        self.running[child] = what
    def reap_one(self):
        deadline = time.monotonic() + 60
        while True:
            for child in list(self.running):
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    what = self.running.pop(child)
                    code = os.waitstatus_to_exitcode(status)
                    assert code == 0, f"{what} ended with {code}"
                    return
            if time.monotonic() > deadline:
                for child in self.running:
                    # faulthandler prints its stack.
                    os.kill(child, signal.SIGABRT)
                raise AssertionError(f"these children hang: {self.running}")
            time.sleep(0.001)
    def reap_all(self):
        while self.running:
            self.reap_one()
"""
)

#: Each of the seven kinds of children four times.
FORKS, THREADS = 28, 3

UNDER_LOAD = f"""
children = Children(most_at_once=4)
expected = dict.fromkeys(("child", "grandchild", "thread", "leaver"), 0)
expected.update((f"parent{{index}}", 0) for index in range({THREADS}))

def leave():
    # os._exit loses unsent changes. A scrape sends them first.
    generate_metrics()
    os._exit(0)

# What each kind of child does.
def is_idle():
    os._exit(0)
def is_idle_and_ends():
    sys.exit(0)
def counts_and_ends():
    count("child", 3)
    sys.exit(0)
def counts_and_leaves():
    count("leaver", 2)
    leave()
def has_a_child():
    grandchildren = Children(most_at_once=1)
    count("child")
    grandchildren.fork("a grandchild", counts_as_grandchild)
    count("child")
    grandchildren.reap_all()
    sys.exit(0)
def only_its_child_counts():
    grandchildren = Children(most_at_once=1)
    grandchildren.fork("a grandchild of an idle child", counts_as_grandchild)
    grandchildren.reap_all()
    os._exit(0)
def counts_as_grandchild():
    count("grandchild", 2)
    sys.exit(0)
def has_threads():
    threads = [threading.Thread(target=count, args=("thread", 5)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    leave()
# How much each kind of child counts, by counter.
KINDS = [
    (is_idle, {{}}),
    (is_idle_and_ends, {{}}),
    (counts_and_ends, {{"child": 3}}),
    (counts_and_leaves, {{"leaver": 2}}),
    (has_a_child, {{"child": 2, "grandchild": 2}}),
    (only_its_child_counts, {{"grandchild": 2}}),
    (has_threads, {{"thread": 10}}),
]

def fork_children(number):
    for index in range(number):
        body, counts = KINDS[index % len(KINDS)]
        children.fork(body.__name__, body)
        for who, amount in counts.items():
            expected[who] += amount
    children.reap_all()

def keep_counting(index):
    made = 0
    while not enough.is_set():
        count(f"parent{{index}}")
        expected[f"parent{{index}}"] += 1
        if index == 0 and expected["parent0"] % 50 == 0:
            generate_metrics()
        if index == 1:
            # Families and metrics are created and dropped.
            gauge_of_the_moment = Gauge(f"moment{{made % 10}}", "help", registry=None, required_labels=["a"])
            gauge_of_the_moment.labels(a=str(made % 7)).set(made)
            made += 1

enough = threading.Event()
threads = [threading.Thread(target=keep_counting, args=(index,)) for index in range({THREADS})]
for thread in threads:
    thread.start()
fork_children({FORKS})
enough.set()
for thread in threads:
    thread.join()
print(json.dumps([expected, generate_metrics()]))
"""


def test_forks_beside_three_busy_threads_keep_totals_exact(store: SharedStore) -> None:
    expected, text = json.loads(run_program(UNDER_LOAD, store.config(), prelude=CHILDREN))
    assert counted_in(text) == {**expected, "total": sum(expected.values())}
    # All processes have ended. A new one sees the same.
    assert store.counted() == {**expected, "total": sum(expected.values())}
    assert expected["child"] == 4 * 5 and expected["grandchild"] == 4 * 4 and expected["thread"] == 4 * 10


def test_a_thread_may_fork_while_others_count(store: SharedStore) -> None:
    """The children begin in that thread and have no main function to return from, so they end with
    os._exit."""
    output = run_program(
        """
        enough = threading.Event()
        expected = {"main": 0, "other": 0, "child": 0, "grandchild": 0}
        def keep_counting(who):
            while not enough.is_set():
                count(who)
                expected[who] += 1
        def fork_children():
            children = Children(most_at_once=4)
            for index in range(20):
                children.fork(f"child {index}", counts_and_forks if index % 2 else counts)
                expected["child"] += 2
                expected["grandchild"] += index % 2
            children.reap_all()
            enough.set()
        def counts(who="child", times=2):
            count(who, times)
            generate_metrics()
            os._exit(0)
        def counts_and_forks():
            count("child")
            grandchildren = Children(most_at_once=1)
            grandchildren.fork("a grandchild", lambda: counts("grandchild", 1))
            grandchildren.reap_all()
            counts(times=1)
        threads = [threading.Thread(target=keep_counting, args=("other",)), threading.Thread(target=fork_children)]
        for thread in threads:
            thread.start()
        keep_counting("main")
        for thread in threads:
            thread.join()
        print(json.dumps(expected))
        """,
        store.config(),
        prelude=CHILDREN,
    )
    expected = json.loads(output)
    assert expected["child"] == 40 and expected["grandchild"] == 10
    assert store.counted() == {**expected, "total": sum(expected.values())}


def test_a_child_that_ends_with_os_exit_loses_only_unsent_changes(store: SharedStore) -> None:
    """os._exit runs no handlers. In shared memory nothing must be sent, and for Redis a scrape sends."""
    output = run_program(
        """
        count("parent")
        child = os.fork()
        if child == 0:
            count("child")
            generate_metrics()
            count("child", 10)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """,
        store.config(**LAZY),
        prelude=SOURCE,
    )
    assert output == ""
    child = 1 if store.is_redis else 11
    assert store.counted() == {"parent": 1, "child": child, "total": 1 + child}


#: Prints the numbers of the descriptors that are open in a program when it starts.
SHOW = """
import json, os
def target(number):
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        return None
print(json.dumps([number for number in sorted(map(int, os.listdir("/proc/self/fd"))) if target(number)]))
"""


def test_a_program_started_by_fork_and_exec_starts_no_thread_and_inherits_nothing(store: SharedStore) -> None:
    """With `subprocess` without closing descriptors, and with os.fork and os.exec: the new program has the
    same descriptors open as one that was started before the backend was loaded. No thread runs in the child
    before the exec."""
    output = run_program(
        f"""
        import subprocess
        show = [sys.executable, "-c", {SHOW!r}]
        def is_alone():
            assert len(os.listdir("/proc/self/task")) == 1, os.listdir("/proc/self/task")
        def started_by_subprocess(preexec_fn):
            pipes = {{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}}
            done = subprocess.run(show, check=True, close_fds=False, preexec_fn=preexec_fn, **pipes)
            return json.loads(done.stdout)
        def started_by_exec():
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                is_alone()
                os.dup2(writing, 1)
                os.execv(sys.executable, show)
            os.close(writing)
            with open(reading) as pipe:
                text = pipe.read()
            assert os.waitpid(child, 0)[1] == 0
            return json.loads(text)
        def started():
            return [started_by_subprocess(None), started_by_subprocess(is_alone), started_by_exec()]
        before = started()
        exec({LOAD!r})
        count("parent")
        generate_metrics()
        own = [entry for entry in os.scandir("/proc/self/fd") if os.path.lexists(entry.path)]
        assert any("socket:" in name or name.endswith("metrics") for name in map(os.readlink, own)), own
        enough = threading.Event()
        def keep_counting():
            while not enough.is_set():
                count("parent")
                generate_metrics()
        threads = [threading.Thread(target=keep_counting) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            after = started()
            assert after == before, (before, after)
        enough.set()
        for thread in threads:
            thread.join()
        """,
        store.config(),
    )
    assert output == ""


#: Every kind of call once, on a backend that it loads.
USE_EVERYTHING = """
from pytheus.metrics import Counter, Gauge, Histogram, Summary
from pytheus.registry import REGISTRY, CollectorRegistry
import pytheus_backend_rs
def use_everything():
    load_backend(getattr(pytheus_backend_rs, config["class"]), config["options"])
    registry = CollectorRegistry()
    counter = Counter("requests_total", "help", required_labels=["who"], registry=registry)
    counter.labels(who="all").inc()
    Gauge("level", "help", registry=registry).set(1)
    Histogram("size", "help", registry=registry).observe(1)
    Summary("latency", "help", registry=registry).observe(1)
    try:
        counter.labels(who="all").inc(-1)
    except ValueError:
        pass
    assert "requests_total" in pytheus_backend_rs.generate_metrics(registry)
    request = {"REQUEST_METHOD": "GET", "HTTP_ACCEPT_ENCODING": "gzip"}
    list(pytheus_backend_rs.make_wsgi_app(registry)(request, lambda *_: None))
    pytheus_backend_rs.start_http_server(0).close()
"""


def test_no_call_imports_a_module(store: SharedStore) -> None:
    """A child that another thread forks during an import inherits a module lock that nothing releases."""
    output = run_program(
        """
        before = set(sys.modules)
        use_everything()
        print(sorted(set(sys.modules) - before))
        """,
        store.config(),
        prelude=PRELUDE + USE_EVERYTHING,
    )
    assert output == "[]\n"


def test_forks_while_a_thread_loads_its_first_backend_hang_no_child(store: SharedStore) -> None:
    output = run_program(
        """
        thread = threading.Thread(target=use_everything)
        thread.start()
        children = Children(most_at_once=1)
        for number in range(20):
            children.fork(f"child {number}", lambda: (use_everything(), os._exit(0)))
        children.reap_all()
        thread.join()
        print("the end")
        """,
        store.config(),
        prelude=PRELUDE + USE_EVERYTHING + CHILDREN[len(SOURCE) :],
    )
    assert output == "the end\n"
