"""`kill -9` of any process at any moment: its sent changes stay, other processes count exactly, and every
process can read the store.
"""

from __future__ import annotations

import json
import re

from programs import run_program
from shared_stores import SOURCE, SharedStore

WRITERS, KILLS = 4, 20


def test_a_killed_writer_loses_only_unsent_changes_and_disturbs_no_other_process(store: SharedStore) -> None:
    """Each life of a writer notes every count before it counts, and after each scrape what is confirmed,
    because a scrape sends. In shared memory each count is confirmed at once."""
    output = run_program(
        f"""
        import mmap, random, signal
        lives = {WRITERS + KILLS}
        # Memory that all processes share: for each life its tries and its confirmed counts, and then the end
        # flag.
        noted = memoryview(mmap.mmap(-1, lives * 16 + 8)).cast("Q")
        is_redis = config["class"] == "RedisBackend"
        def work(life):
            inc = counter.labels(who=str(life)).inc
            tried = 0
            while not noted[2 * lives]:
                for _ in range(200):
                    tried += 1
                    noted[2 * life] = tried
                    inc()
                    if not is_redis:
                        noted[2 * life + 1] = tried
                # New families and metrics are created, too.
                Gauge(f"moment{{tried % 7}}", "help", registry=None, required_labels=["a"]).labels(a=tried % 90).inc()
                generate_metrics()
                noted[2 * life + 1] = tried
        def start(life):
            child = os.fork()
            if child == 0:
                work(life)
                sys.exit(0)
            return child
        living = {{life: start(life) for life in range({WRITERS})}}
        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        killed = []
        def work_goes_on():
            # Waits for more confirmed counts from any writer.
            before = sum(noted[1::2]) + chance.randrange(1, 1500)
            deadline = time.monotonic() + 60
            while sum(noted[1::2]) < before:
                assert time.monotonic() < deadline, f"no count is confirmed after {{killed}} were killed"
                time.sleep(0.0005)
        for kill in range({KILLS}):
            work_goes_on()
            life = chance.choice(sorted(living))
            child = living.pop(life)
            os.kill(child, signal.SIGKILL)
            assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
            killed.append(life)
            living[{WRITERS} + kill] = start({WRITERS} + kill)
        work_goes_on()
        noted[2 * lives] = 1
        for child in living.values():
            assert os.waitpid(child, 0)[1] == 0
        print(json.dumps([seed, killed, list(noted[: 2 * lives : 2]), list(noted[1 : 2 * lives : 2])]))
        """,
        store.config(),
        prelude=SOURCE,
    )
    seed, killed, tried, confirmed = json.loads(output)
    found = re.findall(r'^requests_total{who="(\d+)"} (\S+)$', store.scrape(), re.MULTILINE)
    counted = {int(life): float(value) for life, value in found}
    assert len(killed) == KILLS
    for life in range(WRITERS + KILLS):
        value = counted.get(life, 0)
        if life in killed:
            assert confirmed[life] <= value <= tried[life], (seed, life, confirmed[life], value, tried[life])
        else:
            assert value == tried[life], (seed, life, value, tried[life])
