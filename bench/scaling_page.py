"""The tables of docs/scaling.md, made from bench/results/redis_fleet.json.

`make bench-redis` measures and writes them; `python bench/scaling_page.py` only writes them. A test holds the page
against `tables()`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fleet_model import Model
from profiles import ALL, FEW, IDLE, PROFILES, REQUESTS
from scrape_costs import bytes_of
from work import Work

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "scaling.md"
RESULTS = ROOT / "bench" / "results" / "redis_fleet.json"
END = "<!-- end of table -->\n"

PROCESSES = (10, 1_000, 100_000)
#: Seconds between two sends, as `flush_interval_ms` sets it. None: the default pace.
INTERVALS = (None, 0.25, 1.0, 5.0, 15.0)
#: The part of a core that is left for peaks and for other work of the server.
CORES_OF_A_SERVER = 0.5
SCRAPE_SECONDS = 15
NAMES = {IDLE: "idle", REQUESTS: "50 requests a second", FEW: "100 series change", ALL: "1,000 series change"}


def begin(name: str) -> str:
    return f"<!-- table: {name}, by make bench-redis -->\n"


def tables(measured: dict[str, Any]) -> dict[str, str]:
    """Returns the tables in Markdown, by name."""
    sizes = sorted({fleet["processes"] for fleet in measured["fleets"]})
    model = Model.of(measured, sizes[-1])
    smaller = Model.of(measured, sizes[-2])
    return {
        "costs": costs(model),
        "load": load(model),
        "intervals": intervals(model),
        "servers": servers(model),
        "memory": memory(model),
        "scrapes": scrapes(model),
        "checked load": checked_load(smaller, measured),
        "checked memory": checked_memory(smaller, measured),
        "source": source(measured),
    }


def costs(model: Model) -> str:
    rows = [
        ("an exchange: one send of a process, whatever it carries", _us(model.send.exchange_us), "", ""),
        (
            "a batch: one family in it",
            _us(model.send.batch_us),
            f"{model.send.batch_bytes:,.0f}",
            f"{model.send.batch_calls:,.0f}",
        ),
        (
            "a changed series in a batch",
            _us(model.send.change_us),
            f"{model.send.change_bytes:,.0f}",
            f"{model.send.change_calls:,.0f}",
        ),
        (
            "the start of a process",
            _us(model.start_us),
            f"{model.start_bytes:,.0f}",
            f"{model.start_calls:,.0f}",
        ),
        ("a connection that is idle, for a second", _us(model.send.connection_us), "0", "0"),
        ("a scrape", _us(model.scrape.scrape_us), "", f"{model.scrape.calls:,.0f}"),
        (
            "a family that has changed, in a scrape",
            _us(model.scrape.family_us),
            "",
            f"{model.scrape.family_calls:,.0f}",
        ),
        (
            "a series of such a family, in a scrape",
            _us(model.scrape.series_us),
            f"{model.scrape.series_bytes:,.0f}",
            "0",
        ),
    ]
    return _table(("", "server CPU", "bytes", "commands in `INFO`"), rows)


def load(model: Model) -> str:
    rows = []
    for profile in PROFILES:
        work = model.work(profile)
        for count in PROCESSES:
            rows.append(
                (
                    NAMES[profile],
                    f"{count:,}",
                    _number(count * work.batches),
                    _number(count * model.send.calls(work)),
                    _number(count * model.send.bytes_in(work) / 1e6),
                    _number(count * model.send.bytes_out(work) / 1e6),
                    _number(model.server_cores(count, profile)),
                    _percent(model.process_us[profile] / 1e6),
                )
            )
    return _table(
        (
            "each process",
            "processes",
            "batches/s",
            "commands/s in `INFO`",
            "MB/s in",
            "MB/s out",
            "server cores",
            "CPU of each process",
        ),
        rows,
    )


def intervals(model: Model) -> str:
    rows = []
    for profile in (REQUESTS, FEW, ALL):
        counts = [model.most_processes(profile, CORES_OF_A_SERVER, interval) for interval in INTERVALS]
        rows.append((NAMES[profile], *(_rounded(count) for count in counts)))
    return _table(("each process", *interval_heads()), rows)


def servers(model: Model) -> str:
    rows = []
    for profile in (REQUESTS, FEW, ALL):
        counts = [model.most_processes(profile, CORES_OF_A_SERVER, interval) for interval in INTERVALS]
        rows.append((NAMES[profile], *(_rounded(math.ceil(PROCESSES[-1] / count)) for count in counts)))
    return _table(("each process", *interval_heads()), rows)


def interval_heads() -> list[str]:
    return ["the default" if interval is None else f"{interval * 1000:,.0f} ms" for interval in INTERVALS]


def memory(model: Model) -> str:
    rows = []
    for count in PROCESSES:
        shared, own = (model.all_series(count, own) * model.memory.series for own in (False, True))
        entries = model.entries_bytes(count)
        idle, busy = (model.connections_bytes(count, profile) for profile in (IDLE, ALL))
        rows.append(
            (
                f"{count:,}",
                _megabytes(shared),
                _megabytes(own),
                _megabytes(entries),
                _megabytes(idle),
                _megabytes(busy),
                _megabytes(shared + entries + busy),
                _megabytes(own + entries + busy),
            )
        )
    return _table(
        (
            "processes",
            "series, the same in all",
            "series, 1,000 of each",
            "writers' entries",
            "idle connections",
            "sending connections",
            "in all, the same series",
            "in all, own series",
        ),
        rows,
    )


def scrapes(model: Model) -> str:
    families = model.shape.families
    rows = []
    for own, counts in ((False, (1,)), (True, PROCESSES)):
        for count in counts:
            series = model.all_series(count, own)
            cost = model.scrape.cpu_us(families, series)
            rows.append(
                (
                    f"1,000 of each of {count:,} processes" if own else "the same 1,000 in all processes",
                    f"{series:,}",
                    _number(series * model.scrape.series_bytes / 1e6),
                    _duration(cost),
                    _duration(model.scrape.pause_us(series // families)),
                    _percent(cost / 1e6 / SCRAPE_SECONDS),
                )
            )
    heads = (
        "series",
        "in all",
        "MB",
        "server CPU",
        "longest pause of the server",
        f"of a core, every {SCRAPE_SECONDS} s",
    )
    return _table(heads, rows)


def checked_load(model: Model, measured: dict[str, Any]) -> str:
    largest = max(fleet["processes"] for fleet in measured["fleets"])
    rows = []
    for fleet in measured["fleets"]:
        if fleet["processes"] != largest:
            continue
        interval = fleet["options"].get("flush_interval_ms")
        seconds = interval / 1000 if interval else None
        work = model.work(fleet["profile"], seconds)
        sent = Work.of_window(fleet)
        cpu = model.send.cpu_us(largest, sent)
        rows.append(
            (
                NAMES[fleet["profile"]] + (f", `flush_interval_ms={interval}`" if interval else ""),
                _compared(largest * work.batches, largest * sent.batches),
                _compared(largest * model.send.calls(sent), fleet["calls"]),
                _compared(largest * model.send.bytes_in(sent) / 1e3, fleet["bytes in"] / 1e3),
                _compared(largest * model.send.bytes_out(sent) / 1e3, fleet["bytes out"] / 1e3),
                _compared(cpu / 1e3, fleet["server us"] / 1e3),
            )
        )
    heads = (
        f"each of {largest} processes",
        "batches/s",
        "commands/s in `INFO`",
        "kB/s in",
        "kB/s out",
        "server CPU, ms/s",
    )
    return _table(heads, rows)


def checked_memory(model: Model, measured: dict[str, Any]) -> str:
    largest = max(fleet["processes"] for fleet in measured["fleets"])
    idle, busy = (
        next(f for f in measured["fleets"] if f["processes"] == largest and f["profile"] == profile)
        for profile in (IDLE, ALL)
    )
    own = measured["own labels"]
    series = model.all_series(own["processes"], True)
    families = model.shape.families
    base = min(
        fleet["connections bytes"] - fleet["processes"] * model.memory.idle_connection
        for fleet in measured["fleets"]
        if fleet["profile"] == IDLE and fleet["processes"] < largest
    )
    rows = [
        ("connections", f"{largest:,}", f"{idle['connections']:,}", _error(largest, idle["connections"])),
        _row(
            "idle connections, kB",
            model.connections_bytes(largest, IDLE) / 1e3,
            (idle["connections bytes"] - base) / 1e3,
        ),
        _row(
            "sending connections, kB",
            model.connections_bytes(largest, ALL) / 1e3,
            (busy["connections bytes"] - base) / 1e3,
        ),
        _row("writers' entries, kB", model.entries_bytes(largest) / 1e3, idle["entries bytes"] / 1e3),
        _row(f"{series:,} series, kB", series * model.memory.series / 1e3, own["bytes"] / 1e3),
        _row(
            f"a scrape of {series:,} series, server CPU in ms",
            model.scrape.cpu_us(families, series) / 1e3,
            own["scrape"]["server us"] / 1e3,
        ),
        _row(
            "its bytes in both directions, kB",
            series * model.scrape.series_bytes / 1e3,
            bytes_of(own["scrape"]) / 1e3,
        ),
    ]
    return _table((f"{largest} processes", "predicted", "measured", "error"), rows)


def source(measured: dict[str, Any]) -> str:
    machine, shape = measured["machine"], measured["shape"]
    return (
        f"Measured on {measured['date']} with redis-server {measured['server']} on {machine['processor']}, "
        f"{machine['cores']} cores, in {measured['seconds']} s.\n"
        f"The load average before was {machine['load before']:g}.\n"
        f"Each process has {shape['families']} counters of {shape['series']} label sets of "
        f"{measured['label bytes']} bytes.\n"
    )


def write() -> None:
    """Replaces the tables in the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables(json.loads(RESULTS.read_text(encoding="utf-8"))).items():
        before, begins, rest = text.partition(begin(name))
        _, ends, after = rest.partition(END)
        if not (begins and ends):
            raise SystemExit(f"{PAGE} has no place for the table {name!r}")
        text = before + begins + table + ends + after
    PAGE.write_text(text, encoding="utf-8")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]) + "\n"


def _row(what: str, predicted: float, measured: float) -> tuple[str, ...]:
    return what, _number(predicted), _number(measured), _error(predicted, measured)


def _compared(predicted: float, measured: float) -> str:
    return f"{_number(predicted)} / {_number(measured)} ({_error(predicted, measured)})"


def _error(predicted: float, measured: float) -> str:
    if not measured:
        return "exact" if not predicted else "nothing was measured"
    percent = round((predicted / measured - 1) * 100)
    return f"{percent:+} %" if percent else "0 %"


def _number(value: float) -> str:
    """Returns a number with three significant digits."""
    if value == 0:
        return "0"
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}" if value >= 0.01 else f"{value:.1g}"


def _rounded(value: int) -> str:
    """Returns a count with two significant digits."""
    return f"{int(float(f'{value:.2g}')):,}"


def _megabytes(value: float) -> str:
    return f"{_number(value / 1e9)} GB" if value >= 1e9 else f"{_number(value / 1e6)} MB"


def _duration(us: float) -> str:
    return f"{_number(us / 1e6)} s" if us >= 1e6 else f"{_number(us / 1e3)} ms"


def _us(value: float) -> str:
    return f"{_number(value)} µs"


def _percent(value: float) -> str:
    return f"{_number(value * 100)} %"


if __name__ == "__main__":
    write()
