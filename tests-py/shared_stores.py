"""The stores that processes share, so that one test can show the same promise for each: `RedisBackend` on the
session's server, and `SharedMemoryBackend` on a file of the test's own.

A program that runs in processes of its own begins with `LOAD`, and finds the store in its configuration.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from programs import PRELUDE, run_program

#: Loads the store that the configuration names, and gives programs the three metrics that they count in.
LOAD = '''
import pytheus_backend_rs
load_backend(getattr(pytheus_backend_rs, config["class"]), config["options"])
counter = Counter("requests_total", "help", required_labels=["who"])
gauge = Gauge("level", "help")
histogram = Histogram("size", "help", buckets=[1])
def count(who, times=1):
    for _ in range(times):
        counter.labels(who=who).inc()
        gauge.inc(2)
        gauge.dec(1)
        histogram.observe(0.5)
def is_shown(total, text):
    """Whether a scrape has `total` counts in each of the three metrics, which are sent one by one."""
    counted = sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("requests_total{"))
    return counted == total and f"\\nlevel {total}.0\\n" in text and f"\\nsize_count {total}.0\\n" in text
'''

SOURCE = PRELUDE + LOAD

#: The next regular flush is far away, so that only the end of a process can send what it has counted; and that may
#: take long, as on a busy machine it does.
LAZY = {"flush_interval_ms": 600_000, "shutdown_timeout": 60}


class SharedStore(NamedTuple):
    """Which backend class a test uses, and with which options."""

    class_name: str
    options: dict[str, Any]

    @property
    def is_redis(self) -> bool:
        return self.class_name == "RedisBackend"

    def config(self, **redis_options: Any) -> dict[str, Any]:
        """What a program gets; `redis_options` mean nothing to a store that sends nothing."""
        options = {**self.options, **redis_options} if self.is_redis else self.options
        return {"class": self.class_name, "options": options}

    def scrape(self) -> str:
        """What a fresh process shows of the three metrics."""
        return run_program(LOAD + "print(generate_metrics())", self.config())

    def counted(self) -> dict[str, float]:
        """What a fresh process sees in the store: what each `who` has counted, and the `total`.

        Every count changes the counter, the gauge and the histogram: they must agree.
        """
        return counted_in(self.scrape())


def counted_in(text: str) -> dict[str, float]:
    """The same from a scrape."""
    counted = {}
    other = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith('requests_total{who="'):
            counted[name.split('"')[1]] = float(value)
        elif name and not name.startswith("#"):
            other[name] = float(value)
    total = sum(counted.values())
    assert other.get("level", 0) == total, text
    assert other.get("size_sum", 0) == total / 2, text
    assert other.get("size_count", 0) == total, text
    return {**counted, "total": total}
