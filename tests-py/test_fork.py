"""Forks at any moment, from any thread, while other threads are in the middle of any call: nobody hangs, nothing
is lost and nothing is counted twice, in parent, child and grandchild. And a fork that is followed by exec starts
no thread, and takes nothing of ours along.

A child that does not end is found by a deadline, and its stack is printed.
"""

from __future__ import annotations

import json

import pytest

from programs import run_program
from shared_stores import LAZY, LOAD, SOURCE, SharedStore, counted_in

#: Forks children that each end with 0, and waits for them, for a bounded time.
CHILDREN = SOURCE + """
import signal
# Threads take turns often, so that a fork finds them everywhere, and the one that forks need not wait for long.
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

FORKS, THREADS, ROUNDS = 300, 3, 3

UNDER_LOAD = f"""
children = Children(most_at_once=4)
expected = dict.fromkeys(("child", "grandchild", "thread", "leaver"), 0)
expected.update((f"parent{{index}}", 0) for index in range({THREADS}))

def leave():
    # os._exit loses what was not sent, so it is sent: a scrape does that first.
    generate_metrics()
    os._exit(0)

# What a child does, and how much is counted by whom.
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
            # Metrics and families come and go.
            gauge_of_the_moment = Gauge(f"moment{{made % 10}}", "help", registry=None, required_labels=["a"])
            gauge_of_the_moment.labels(a=str(made % 7)).set(made)
            made += 1

for _ in range({ROUNDS}):
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


def test_300_forks_under_load_from_3_threads_keep_totals_exact_three_times_in_a_row(
    store: SharedStore,
) -> None:
    output = run_program(UNDER_LOAD, store.config(), prelude=CHILDREN, timeout=400)
    rounds = [json.loads(line) for line in output.splitlines()]
    assert len(rounds) == ROUNDS
    for expected, text in rounds:
        assert counted_in(text) == {**expected, "total": sum(expected.values())}
    # The children of the last round have ended, and so has the parent: a fresh process sees the same.
    expected = rounds[-1][0]
    assert store.counted() == {**expected, "total": sum(expected.values())}
    assert expected["child"] == ROUNDS * 43 * 5 and expected["thread"] == ROUNDS * 42 * 10


def test_a_thread_may_fork_while_others_count(store: SharedStore) -> None:
    """The children begin in that thread, so they have no main function to return from: they leave."""
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
            for index in range(60):
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
    assert expected["child"] == 120 and expected["grandchild"] == 30
    assert store.counted() == {**expected, "total": sum(expected.values())}


def test_a_child_that_leaves_at_once_loses_what_it_had_not_sent_and_no_more(store: SharedStore) -> None:
    """os._exit runs no handlers. In shared memory nothing has to be sent; for Redis a scrape sends."""
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


#: What is open in a program that starts, by number.
SHOW = """
import json, os
def target(number):
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        return None
print(json.dumps([number for number in sorted(map(int, os.listdir("/proc/self/fd"))) if target(number)]))
"""


@pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "busy"])
def test_a_program_started_by_fork_and_exec_starts_no_thread_and_inherits_nothing_of_ours(
    store: SharedStore, is_busy: bool
) -> None:
    """By `subprocess` without closing anything, and by os.fork and os.exec: the new program has no more open
    than one that was started before the backend was loaded, and no thread ran beside the child that became it."""
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
        threads = [threading.Thread(target=keep_counting) for _ in range(2 * {is_busy})]
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
