"""Prints the tables and writes the JSON file: medians, ratios, noise, targets and failures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import calls
import engine_calls
import growth
import headline
import many_processes
import redis_traffic
import scrape
import series
import startup
import targets
import web_request
from peers import PEERS
from timing import SITUATIONS

LEGEND = """
Each cell: the median of the rounds, and in brackets how many times what ours takes that is: the median of the
ratios within each round. Held against ours are: RedisBackend for what uses a server, SharedMemoryBackend for
prometheus_client's multi-process mode, SingleProcessAtomicBackend for all others. ±: the interquartile range over
the median, in the worst cell of the line. "0.0.9" is pytheus-backend-rs 0.0.9; a floor is a call that does nothing."""
AGAINST = {peer.name: peer.against for peer in PEERS}


def show(rounds, machine: dict, versions: dict) -> None:
    figures = rounds.figures
    print("\n" + "=" * 100)
    show_facts("Machine", machine)
    show_facts("Versions", versions)
    show_facts("Noise", rounds.noise())
    print(LEGEND)
    for situation in SITUATIONS:
        for clock, clock_name in (("", "wall clock"), (", CPU", "processor time")):
            works = {work: f"{work}, {situation}{clock}" for work in calls.LOOPS}
            title = f"A call, {situation}, {clock_name}, ns"
            show_table(figures, title, calls.TOPIC, works)
    for topic, title in (
        (headline.TOPIC, "0.0.9's headline: one counter, inc(), s"),
        (web_request.TOPIC, "One web request, as PytheusMiddlewareASGI measures it, ns"),
        (series.TOPIC, "Many series: time in µs and memory in bytes, for each"),
        (
            redis_traffic.TOPIC,
            "A million calls on a Redis server: commands and bytes; until all have arrived",
        ),
        (startup.TOPIC, "Start-up, ms"),
    ):
        show_table(figures, title, topic, {work: work for work in figures.works(topic)})
    for topic, title in (
        (scrape.TOPIC, "A scrape, ms"),
        (many_processes.TOPIC, "A scrape of 10,000 counters in which many processes have counted, ms"),
    ):
        show_table(
            figures,
            title,
            topic,
            {work: work for work in figures.works(topic)},
            scrape_against(figures, topic),
        )
    works = {work: work for work in figures.works(engine_calls.TOPIC)}
    show_table(figures, "The engine without Python, ns", engine_calls.TOPIC, works, engine_against)
    for curve in growth.curves(figures):
        points = dict.fromkeys(
            number
            for engine in growth.engines(figures, curve)
            for number, _ in growth.points(figures, curve, engine)
        )
        works = {f"{number:,}": growth.work(curve, number) for number in points}
        show_table(figures, f"Growth without Python, processor time: {curve}", growth.TOPIC, works)
    show_targets(targets.results(figures))
    show_failures(rounds.failures)


def show_facts(title: str, facts: dict) -> None:
    print(f"\n{title}")
    for name, value in facts.items():
        print(f"  {name}: {value}")


def show_table(figures, title: str, topic: str, works: dict, against=AGAINST.get) -> None:
    """Prints a line for each peer and a column for each work; `works` maps headings to works."""
    works = {heading: work for heading, work in works.items() if figures.peers(topic, work)}
    if not works:
        return
    rows = [["", *(heading for heading in works), "±"]]
    for who in figures.peers(topic):
        cells = [_cell(figures, topic, work, who, against(who)) for work in works.values()]
        if any(cells):
            spreads = [figures.spread(topic, work, who) or 0 for work in works.values()]
            rows.append([who, *cells, f"{max(spreads):.0%}"])
    print(f"\n{title}\n")
    show_rows(rows)


def show_rows(rows: list) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  " + "  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
        if number == 0:
            print("  " + "-" * (sum(widths) + 2 * len(widths) - 2))


def scrape_against(figures, topic: str):
    """Compares with our own renderer where a backend has one, and otherwise with pytheus'."""

    def against(who: str) -> str | None:
        ours = AGAINST.get(who.partition(": ")[0])
        ways = [one for one in figures.peers(topic) if ours and one.startswith(f"{ours}: ")]
        if not ways:
            return None
        own = [way for way in ways if "its own" in way]
        return (own or ways)[0]

    return against


def engine_against(who: str) -> str | None:
    return None if who == engine_calls.OURS_C else engine_calls.OURS_C


def show_targets(results: list) -> None:
    print("\nWhat is required of ours\n")
    rows = [["", "needed", "measured", "", "remark"]]
    for result in results:
        verdict = {True: "met", False: "NOT MET", None: "NOT MEASURED"}[result.is_met]
        rows.append([result.what, result.needed, result.measured or "-", verdict, ""])
    show_rows_with_remarks(rows, ["", *(result.remark for result in results)])


def show_rows_with_remarks(rows: list, remarks: list) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row, remark in zip(rows, remarks):
        cells = [cell.rjust(width) for cell, width in zip(row[1:4], widths[1:])]
        print("  " + "  ".join([row[0].ljust(widths[0]), *cells, remark]).rstrip())


def show_failures(failures: list) -> None:
    if not failures:
        print("\nEverything could be run.")
        return
    print("\n" + "!" * 100)
    print("COULD NOT BE RUN, so it is missing above:\n")
    for topic, who, why in failures:
        print(f"  {topic}, {who}:")
        for line in why.splitlines():
            print(f"    {line}")
    print("!" * 100)


def write_json(path: Path, rounds, machine: dict, versions: dict) -> None:
    results = {
        "machine": machine,
        "versions": versions,
        "noise": rounds.noise(),
        "calibration ms": [round(value, 2) for value in rounds.calibrations],
        "targets": [dataclasses.asdict(result) for result in targets.results(rounds.figures)],
        "failures": rounds.failures,
    }
    text = json.dumps(results, indent=1, ensure_ascii=False)
    # One line for each work and peer keeps the file small, and the diff of two runs readable.
    works = ",\n".join(
        json.dumps({key: work[key] for key in ("topic", "work", "unit")}, ensure_ascii=False)[:-1]
        + ', "peers": {\n'
        + ",\n".join(f"  {json.dumps(peer)}: {json.dumps(values)}" for peer, values in work["peers"].items())
        + "}}"
        for work in rounds.figures.as_json()
    )
    path.write_text(f'{text[:-2]},\n "figures": [\n{works}\n]\n}}\n', encoding="utf-8")


def _cell(figures, topic: str, work: str, who: str, ours: str | None) -> str:
    median = figures.median(topic, work, who)
    if median is None:
        return ""
    ratio = figures.ratio((topic, work, who), (topic, work, ours)) if ours else None
    return number(median) + (f" {'(' + short_ratio(ratio) + ')':>8}" if ratio is not None else " " * 9)


def number(value: float) -> str:
    """Returns the number with three significant digits, or with all digits before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def short_ratio(ratio: float) -> str:
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.1f}x" if ratio >= 10 else f"{ratio:.2f}x"
