"""The stores that processes share, so that one test can show the same promise for each: `RedisBackend` on the
session's server, and `SharedMemoryBackend` on a file of the test's own.

A program that runs in processes of its own begins with `LOAD`, and finds the store in its configuration.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from programs import PRELUDE, run_program

#: Loads the configured store and declares the three metrics that programs count in.
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
    """Tells whether a scrape has `total` counts in each of the three metrics, which are sent one by one."""
    counted = sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("requests_total{"))
    return counted == total and f"\\nlevel {total}.0\\n" in text and f"\\nsize_count {total}.0\\n" in text
'''

SOURCE = PRELUDE + LOAD

#: The flush interval is so long that only the end of a process sends its counts. The end may take long on a
#: busy machine.
LAZY = {"flush_interval_ms": 600_000, "shutdown_timeout": 60}


class SharedStore(NamedTuple):
    """The backend class of a test and its options."""

    class_name: str
    options: dict[str, Any]

    @property
    def is_redis(self) -> bool:
        return self.class_name == "RedisBackend"

    def config(self, **redis_options: Any) -> dict[str, Any]:
        """Returns the configuration for a program. Only Redis uses the `redis_options`."""
        options = {**self.options, **redis_options} if self.is_redis else self.options
        return {"class": self.class_name, "options": options}

    def scrape(self) -> str:
        """Returns the scrape of a new process."""
        return run_program(LOAD + "print(generate_metrics())", self.config())

    def counted(self) -> dict[str, float]:
        """Returns the counts in the store as a new process sees them: by `who`, and the `total`.

        Every count changes the counter, the gauge and the histogram: they must agree.
        """
        return counted_in(self.scrape())


def counted_in(text: str) -> dict[str, float]:
    """Returns the counts of a scrape in the same form."""
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
