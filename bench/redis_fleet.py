"""`make bench-redis`: measures what processes cost a Redis server, and writes the tables of docs/scaling.md.

It starts its own servers on loopback and fleets of real processes. What counts comes from the server: commands, bytes,
memory and processor time, which hardly depend on what else the machine does. fleet_model.py makes a model
of the smaller fleets and of single processes; the largest fleet, longer intervals and label sets that differ by
process are there to check it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import environment
import scaling_page
from fleet import Fleet
from fleet_model import Shape
from fleet_writer import FAMILIES, FAMILIES_OF_A_REQUEST, SERIES, Setting, family_name, labels
from profiles import ALL, FEW, IDLE, PROFILES, REQUESTS, REQUESTS_PER_SECOND
from scrape_costs import PIECE
from server_reading import Reading, ServerReader

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "python"))
from local_redis import local_redis

#: Of the series of each family, how many change in the profile "few".
FEW_SERIES = 5
#: The interval of the fleets that send less often.
LONGER_MS = 1000
#: Every hash is a table, as Redis keeps those of more than 512 fields or with fields of more than 64 bytes.
SERVER_OPTIONS = ("--hash-max-ziplist-entries", "0")


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    fleets: tuple[int, ...]
    #: Of each window, and before it, until processes that send all the time have reached their pace.
    seconds: float
    settling: float
    #: Series of each family, where a server holds more or less of them.
    stocks: tuple[int, ...]
    #: About how many microseconds of the server's time one measurement of flushes or scrapes takes.
    server_us: float
    rounds: int
    #: Connections that do nothing.
    connections: int


FULL = Size((1, 3, 10, 30), 5.0, 2.0, (SERIES, 1_000, PIECE), 15_000.0, 3, 500)
TINY = Size((1, 2, 3), 0.4, 0.1, (SERIES, 2 * SERIES), 1_000.0, 1, 50)


def main() -> int:
    options = arguments()
    size = TINY if options.tiny else FULL
    print(__doc__.splitlines()[0])
    start = time.perf_counter()
    measured: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": environment.machine(),
        "shape": asdict(Shape(FAMILIES, SERIES, FAMILIES_OF_A_REQUEST, FEW_SERIES)),
        "label bytes": len(json.dumps(labels(0, 0), separators=(",", ":"))),
        "requests per second": REQUESTS_PER_SECOND,
        "flushes": [],
        "series": [],
        "scrapes": [],
        "starts": [],
        "fleets": [],
    }
    progress(start, f"{size.connections} idle connections")
    with empty_server() as (port, server):
        measured["server"] = server.value("redis_version")
        measured["idle connections"] = measure_idle_connections(size, port, server)
    for stock in size.stocks:
        progress(start, f"one process and one that scrapes, {FAMILIES * stock:,} series")
        with empty_server() as (port, server):
            measure_stock(measured, size, port, server, stock)
    for count in size.fleets:
        progress(start, f"{count} processes")
        with empty_server() as (port, server):
            measure_fleet(measured, size, port, server, count)
    count = size.fleets[-1]
    progress(start, f"{count} processes that send once in {LONGER_MS} ms")
    with empty_server() as (port, server):
        measure_longer_interval(measured, size, port, server, count)
    progress(start, f"{count} processes with label sets of their own")
    with empty_server() as (port, server):
        measure_own_labels(measured, size, port, server, count)
    measured["seconds"] = round(time.perf_counter() - start)
    results = Path(options.results)
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(as_text(measured), encoding="utf-8")
    for table in scaling_page.tables(json.loads(results.read_text(encoding="utf-8"))).values():
        print(f"\n{table}", end="")
    if options.page:
        scaling_page.write()
    print(f"\nWritten: {results}{' and ' + str(scaling_page.PAGE) if options.page else ''}")
    return 0


@contextlib.contextmanager
def empty_server() -> Iterator[tuple[int, ServerReader]]:
    with local_redis(*SERVER_OPTIONS) as port:
        server = ServerReader(port)
        try:
            yield port, server
        finally:
            server.close()


def measure_idle_connections(size: Size, port: int, server: ServerReader) -> list[dict[str, float]]:
    """Measures the server on its own, and with connections that do nothing."""
    found = []
    for count in (0, size.connections):
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                connection = ServerReader(port)
                stack.callback(connection.close)
                connection.ask("PING")
            before = server.read()
            time.sleep(size.seconds)
            grown = server.read() - before
            found.append({"connections": count, "server us": grown.cpu_us / grown.time})
    return found


def memory_of_series(server: ServerReader) -> int:
    """Returns the bytes of all values, and of the times at which the series began."""
    names = [family_name(family) for family in range(FAMILIES)]
    return sum(server.memory_of(name) + server.memory_of(f"{{{name}}}:meta") for name in names)


def measure_stock(measured: dict[str, Any], size: Size, port: int, server: ServerReader, stock: int) -> None:
    """Measures flushes of one process, and scrapes of another, in families with so many series."""
    with Fleet(2, Setting(port, {}, series=stock)) as fleet:
        memory = memory_of_series(server)
        measured["series"].append({"series": FAMILIES * stock, "bytes": memory})
        # A flush looks at all series of its process, so a process with very many would take too long here.
        counts = (1, 5, 20, 100, 500, 1_000) if stock < size.stocks[-1] else ()
        for families in (1, FAMILIES):
            for series in counts:
                if series <= stock:
                    measured["flushes"].append(measure_flush(size, server, fleet, stock, families, series))
        # A scrape of what has not changed costs the server the same with any number of series.
        for families in (0, 1, FAMILIES) if stock == SERIES else (1, FAMILIES):
            measured["scrapes"].append(measure_scrape(size, server, fleet, stock, families))


def measure_flush(
    size: Size, server: ServerReader, fleet: Fleet, stock: int, families: int, series: int
) -> dict[str, Any]:
    times = max(3, int(size.server_us / (families * (20 + 4 * series))))
    grown = []
    for _ in range(size.rounds):
        before = server.read()
        fleet.ask(1, "change", families=families, series=series, times=times)
        grown.append(server.read() - before)
    return {"stock": stock, "families": families, "series": series, **_per(grown, times)}


def measure_scrape(
    size: Size, server: ServerReader, fleet: Fleet, stock: int, families: int
) -> dict[str, Any]:
    """Measures a scrape after another process has changed something in so many families."""
    # The scraping process works longer than the server.
    times = max(3, min(50, int(size.server_us / (FAMILIES * stock))))
    fleet.ask(0, "scrape")
    changes, both = [], []
    for _ in range(size.rounds):
        before = server.read()
        for _ in range(times):
            fleet.ask(1, "change", families=families, series=1, times=1)
        changes.append(server.read() - before)
        fleet.ask(0, "scrape")
        before = server.read()
        for _ in range(times):
            fleet.ask(1, "change", families=families, series=1, times=1)
            fleet.ask(0, "scrape")
        both.append(server.read() - before)
    scrapes = [one - other for one, other in zip(both, changes)]
    return {
        "stock": stock,
        "families": families,
        "series": stock,
        **_per(scrapes, times),
    }


def measure_fleet(measured: dict[str, Any], size: Size, port: int, server: ServerReader, count: int) -> None:
    """Measures processes that all count the same series, in each profile."""
    before = server.read()
    with Fleet(count, Setting(port, {})) as fleet:
        grown = server.read() - before
        measured["starts"].append({"processes": count, **_per([grown], 1)})
        for profile in PROFILES:
            measured["fleets"].append(measure_window(size, server, fleet, count, profile, {}))


def measure_longer_interval(
    measured: dict[str, Any], size: Size, port: int, server: ServerReader, count: int
) -> None:
    options = {"flush_interval_ms": LONGER_MS}
    with Fleet(count, Setting(port, options)) as fleet:
        for profile in (REQUESTS, ALL):
            measured["fleets"].append(measure_window(size, server, fleet, count, profile, options))


def measure_window(
    size: Size, server: ServerReader, fleet: Fleet, count: int, profile: str, options: dict[str, Any]
) -> dict[str, Any]:
    """Measures what a fleet costs in a second."""
    # A process looks for changes for one second after the last one.
    settling = size.settling + options.get("flush_interval_ms", 0) / 1000
    seconds = settling + 1.3 * size.seconds
    if profile == IDLE:
        fleet.tell("rest")
    elif profile == REQUESTS:
        fleet.tell("serve_requests", rate=REQUESTS_PER_SECOND, seconds=seconds)
    else:
        fleet.tell("change_always", series=FEW_SERIES if profile == FEW else SERIES, seconds=seconds)
    time.sleep(settling)
    engine, before = fleet.engine_cpu_us(), server.read()
    time.sleep(size.seconds)
    grown, engine = server.read() - before, fleet.engine_cpu_us() - engine
    clients = int(server.value("connected_clients"))
    # The buffers of a connection grow and shrink, so one look is not enough.
    connections = []
    for _ in range(5):
        connections.append(int(server.value("mem_clients_normal")))
        time.sleep(size.seconds / 50)
    fleet.answers()
    entries = sum(server.memory_of(f"{{{family_name(family)}}}:writers") for family in range(FAMILIES))
    return {
        "processes": count,
        "profile": profile,
        "options": options,
        "seconds": grown.time,
        "batches per send": FAMILIES_OF_A_REQUEST if profile == REQUESTS else FAMILIES,
        "batches": grown.calls.get("evalsha", 0) / grown.time,
        # The script reads each series that it adds to.
        "changes": grown.calls.get("hget", 0) / grown.time,
        **_per([grown], grown.time),
        "engine us": engine / grown.time,
        # Without the connection that asks for this.
        "connections": clients - 1,
        "connections bytes": statistics.mean(connections),
        "entries bytes": entries,
    }


def measure_own_labels(
    measured: dict[str, Any], size: Size, port: int, server: ServerReader, count: int
) -> None:
    """Measures the memory and a scrape of processes whose label sets differ."""
    with Fleet(count, Setting(port, {}, has_own_labels=True)) as fleet:
        memory = memory_of_series(server)
        scrape = measure_scrape(size, server, fleet, count * SERIES, FAMILIES)
        measured["own labels"] = {
            "processes": count,
            "bytes": memory,
            "used memory": int(server.value("used_memory")),
            "scrape": scrape,
        }


def _per(grown: list[Reading], times: float) -> dict[str, float]:
    """Returns the medians of several measurements, for each of `times`."""
    return {
        "server us": statistics.median(one.cpu_us for one in grown) / times,
        "calls": statistics.median(one.all_calls for one in grown) / times,
        "bytes in": statistics.median(one.bytes_in for one in grown) / times,
        "bytes out": statistics.median(one.bytes_out for one in grown) / times,
    }


def _shortened(value: Any) -> Any:
    """Returns the results with five significant digits."""
    if isinstance(value, dict):
        return {name: _shortened(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shortened(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def as_text(measured: dict[str, Any]) -> str:
    """Returns the results as JSON with one measurement a line, which keeps the difference of two runs readable."""
    parts = []
    for name, value in _shortened(measured).items():
        if isinstance(value, list):
            text = "[\n  " + ",\n  ".join(json.dumps(one) for one in value) + "\n ]"
        else:
            text = json.dumps(value)
        parts.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def progress(start: float, text: str) -> None:
    print(f"  {time.perf_counter() - start:5.0f} s  {text}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-redis", description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a few seconds, only to see that everything runs")
    parser.add_argument(
        "--results", default=scaling_page.RESULTS, help="where to write to (default: %(default)s)"
    )
    parser.add_argument(
        "--no-page", dest="page", action="store_false", help="do not write the tables into docs/scaling.md"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
