"""The table of costs in README.md, made from bench/results/results.json.

`python bench/readme_table.py` writes it into the README; a test holds the README against `table()`.
"""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results" / "results.json"
BEGIN = "<!-- table: bench/readme_table.py -->\n"
END = "<!-- end of table -->\n"

#: The columns: heading, topic and work of the results.
COLUMNS = (
    ("`inc()`", "calls", "inc(), alone"),
    ("`observe(x)`", "calls", "observe(0.3), alone"),
    ("`labels(…).inc()`", "calls", "labels(a=…, b=…).inc(), alone"),
    ("scrape", "scrape", "2,700 histograms"),
)
#: The rows: label, peer of the results, and how that peer renders a scrape.
ROWS = (
    ("**memory**", "ours, SingleProcessAtomicBackend", "its own generate_metrics"),
    ("**shared memory**", "ours, SharedMemoryBackend", "its own generate_metrics"),
    ("**Redis**", "ours, RedisBackend", "its own generate_metrics"),
    ("pytheus {pytheus}, memory", "pytheus {pytheus}, SingleProcessBackend", "pytheus' generate_metrics"),
    ("pytheus {pytheus}, Redis", "pytheus {pytheus}, MultiProcessRedisBackend", "pytheus' generate_metrics"),
    ("pytheus-backend-rs 0.0.9, memory", "0.0.9, SingleProcessAtomicBackend", "pytheus' generate_metrics"),
    ("pytheus-backend-rs 0.0.9, Redis", "0.0.9, RedisBackend", "pytheus' generate_metrics"),
    ("prometheus_client {prometheus_client}", "prometheus_client {prometheus_client}", "generate_latest"),
    (
        "prometheus_client {prometheus_client}, multi-process",
        "prometheus_client {prometheus_client}, multi-process",
        "MultiProcessCollector",
    ),
)
_NANOSECONDS = {"ns": 1.0, "ms": 1e6}


def table() -> str:
    """The table in Markdown."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    works = {(figure["topic"], figure["work"]): figure for figure in results["figures"]}
    lines = [
        "| | " + " | ".join(heading for heading, _, _ in COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for label, peer, renderer in ROWS:
        label, peer = (text.format(**results["versions"]) for text in (label, peer))
        cells = []
        for _, topic, work in COLUMNS:
            figure = works[topic, work]
            name = f"{peer}: {renderer}" if topic == "scrape" else peer
            cells.append(_duration(figure["peers"][name]["median"] * _NANOSECONDS[figure["unit"]]))
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _duration(nanoseconds: float) -> str:
    """A duration with two or three significant digits and its unit."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            value = nanoseconds / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{nanoseconds:.0f} ns"


def write() -> None:
    """Replaces the table in the README."""
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    README.write_text(before + BEGIN + table() + END + after, encoding="utf-8")


if __name__ == "__main__":
    write()
