"""Draws the charts of docs/benchmark.md: bars and curves in SVG, readable on a white and on a dark page.

Each chart has a background that follows the reader's colour scheme. A bar that is far longer than the others
is cut and marked; every bar has its value beside it. Both axes of a curve are logarithmic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from pathlib import Path

import calls
import engine_calls
import growth
import scrape
from environment import crates
from report import number
from timing import ALONE

WIDTH, LABEL_WIDTH, VALUE_WIDTH = 900, 410, 90
BAR, GAP, TITLE = 16, 7, 34
#: A peer's bar is cut when it is this many times as long as the shortest bar that is not a floor.
LONGEST = 40

STYLE = """
.page { fill: #ffffff; stroke: #d0d7de } text { fill: #1f2328; font: 13px sans-serif }
.title { font-weight: bold; font-size: 14px } .ours { fill: #1a7f37 } .peer { fill: #8c959f } .floor { fill: #d0d7de }
.cut { fill: #ffffff } .axis { stroke: #d0d7de } .small { font-size: 11px }
.curve { fill: none; stroke-width: 2 } .line0 { stroke: #1a7f37 } .line1 { stroke: #0969da }
.dot0, .name0 { fill: #1a7f37 } .dot1, .name1 { fill: #0969da }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117; stroke: #30363d } text { fill: #e6edf3 }
.ours { fill: #3fb950 } .peer { fill: #6e7681 } .floor { fill: #30363d } .cut { fill: #0d1117 } .axis { stroke: #30363d }
.line0 { stroke: #3fb950 } .line1 { stroke: #58a6ff } .dot0, .name0 { fill: #3fb950 } .dot1, .name1 { fill: #58a6ff }
}
"""


@dataclass
class Panel:
    title: str
    topic: str
    work: str
    unit: str


def write(folder: Path, figures) -> list:
    """Writes the charts and returns their paths."""
    charts = {
        "calls": [
            Panel("Counter: counter.inc()", calls.TOPIC, f"{calls.INC}, {ALONE}", "ns per call"),
            Panel("Gauge: gauge.set(2.5)", calls.TOPIC, f"{calls.SET}, {ALONE}", "ns per call"),
        ],
        "observe-and-labels": [
            Panel(
                "Histogram: histogram.observe(0.3)", calls.TOPIC, f"{calls.OBSERVE}, {ALONE}", "ns per call"
            ),
            Panel(
                "Labels: counter.labels(a=…, b=…).inc()",
                calls.TOPIC,
                f"{calls.LABELS}, {ALONE}",
                "ns per call",
            ),
        ],
        "scrape": [
            Panel("Scrape of 2,700 histograms (38,000 lines)", scrape.TOPIC, scrape.STALL_SIZE, "ms"),
            Panel("Longest stall of an asyncio loop during that scrape", scrape.TOPIC, scrape.STALL, "ms"),
        ],
        "engine": [
            Panel("Without Python: counting", engine_calls.TOPIC, engine_calls.INC, "ns per call"),
            Panel("Without Python: observing", engine_calls.TOPIC, engine_calls.OBSERVE, "ns per call"),
        ],
    }
    paths = []
    for name, panels in charts.items():
        panels = [panel for panel in panels if figures.peers(panel.topic, panel.work)]
        if panels:
            path = folder / f"{name}.svg"
            path.write_text(chart(panels, figures), encoding="utf-8")
            paths.append(path)
    for name, curves in CURVES.items():
        measured = [curve for curve in curves if growth.engines(figures, curve.name)]
        if measured:
            path = folder / f"{name}.svg"
            path.write_text(curve_chart(measured, figures), encoding="utf-8")
            paths.append(path)
    return paths


@dataclass
class Curve:
    title: str
    name: str
    across: str
    unit: str


CURVES = {
    "growth-series": [
        Curve("A scrape", growth.SCRAPE, "series", "ms"),
        Curve("First use of a label set", growth.FIRST_USE, "series", "µs"),
        Curve("First series of a new process", growth.ATTACH, "series", "ms"),
    ],
    "growth-threads": [
        Curve("metric_inc of one counter", growth.THREADS_INC, "threads", "ns"),
        Curve("metric_observe of one histogram", growth.THREADS_OBSERVE, "threads", "ns"),
    ],
    "growth-processes": [
        Curve("metric_inc of one counter", growth.PROCESSES_INC, "processes", "ns"),
        Curve("A scrape of 1,000 counters", growth.PROCESSES_SCRAPE, "processes", "ms"),
    ],
}
#: The size of one set of curves, and the margins of its plot: left, top, right, bottom.
PLOT_WIDTH, PLOT_HEIGHT, MARGINS = 300, 260, (52, 50, 18, 44)


def curve_chart(curves: list, figures) -> str:
    width, height = PLOT_WIDTH * len(curves), PLOT_HEIGHT
    body = []
    for index, curve in enumerate(curves):
        body += draw_curve(curve, figures, PLOT_WIDTH * index)
    return page(width, height, [f"{curve.title} by {curve.across}" for curve in curves], body)


def draw_curve(curve: Curve, figures, left_edge: int) -> list:
    """Returns the lines of one plot: a curve for each engine, in its own colour."""
    engines = growth.engines(figures, curve.name)
    lines = {engine: growth.points(figures, curve.name, engine) for engine in engines}
    numbers = sorted({count for points in lines.values() for count, _ in points})
    values = [value for points in lines.values() for _, value in points]
    # Whole powers of ten, so that the axis has a mark at either end.
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    left, top, right, bottom = MARGINS
    left += left_edge
    across, down = PLOT_WIDTH - MARGINS[0] - right, PLOT_HEIGHT - top - bottom
    least, most = math.log10(numbers[0]), math.log10(max(numbers[-1], numbers[0] + 1))

    def x(count: float) -> float:
        return left + across * (math.log10(count) - least) / (most - least)

    def y(value: float) -> float:
        return top + down * (high - math.log10(value)) / (high - low)

    body = [
        f'<text class="title" x="{left_edge + 14}" y="24">{escape(curve.title)}, {curve.unit}</text>',
        f'<text class="small" x="{left + across / 2:.0f}" y="{PLOT_HEIGHT - 10}" text-anchor="middle">'
        f"{escape(curve.across)}</text>",
    ]
    for power in range(low, high + 1):
        at = y(10**power)
        body.append(f'<path class="axis" d="M{left} {at:.1f}h{across}"/>')
        body.append(
            f'<text class="small" x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
        )
    # A mark for each number, as far as its text has room.
    free_from = 0.0
    for count in numbers:
        text = short(count)
        if x(count) - 4 * len(text) >= free_from:
            body.append(
                f'<text class="small" x="{x(count):.1f}" y="{top + down + 16}" text-anchor="middle">{text}</text>'
            )
            free_from = x(count) + 4 * len(text) + 4
    for index, (engine, points) in enumerate(lines.items()):
        colour = COLOURS.get(engine, index)
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
        body.append(f'<polyline class="curve line{colour}" points="{path}"/>')
        body += [
            f'<circle class="dot{colour}" cx="{x(at):.1f}" cy="{y(value):.1f}" r="3"/>'
            for at, value in points
        ]
        body.append(
            f'<text class="small name{colour}" x="{left + 110 * index}" y="42">{escape(engine)}</text>'
        )
    return body


COLOURS = {"memory": 0, "shared memory": 1}


def short(count: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count // size}{letter}"
    return str(count)


def chart(panels: list, figures) -> str:
    body, top = [], 8
    for panel in panels:
        lines, top = draw(panel, figures, top)
        body += lines
    return page(WIDTH, top + 4, [panel.title for panel in panels], body)


def page(width: int, height: int, titles: list, body: list) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
            f' viewBox="0 0 {width} {height}" role="img">',
            f"<title>{escape('; '.join(titles))}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6"/>',
            *body,
            "</svg>\n",
        ]
    )


def draw(panel: Panel, figures, top: int) -> tuple:
    """Returns the lines of one panel, best first, and where the next panel begins."""
    bars = [
        (who, figures.median(panel.topic, panel.work, who)) for who in figures.peers(panel.topic, panel.work)
    ]
    bars.sort(key=lambda bar: bar[1])
    shortest = next((value for who, value in bars if kind(who) != "floor"), 0)
    limit = max(
        (value for who, value in bars if value <= LONGEST * shortest or kind(who) != "peer"), default=1
    )
    names = labels([who for who, _ in bars])
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    lines = [
        f'<text class="title" x="14" y="{top + 20}">{escape(panel.title)}, {panel.unit} (less is better)</text>'
    ]
    y = top + TITLE
    for who, value in bars:
        length = max(1.5, room * min(value, limit) / limit)
        base = y + BAR - 4
        lines.append(f'<text x="{LABEL_WIDTH - 8}" y="{base}" text-anchor="end">{escape(names[who])}</text>')
        lines.append(
            f'<rect class="{kind(who)}" x="{LABEL_WIDTH}" y="{y}" width="{length:.1f}" height="{BAR}"/>'
        )
        if value > limit:
            x = LABEL_WIDTH + room - 30
            lines.append(f'<path class="cut" d="M{x} {y + BAR}l6 -{BAR}h6l-6 {BAR}z"/>')
        lines.append(f'<text x="{LABEL_WIDTH + length + 6:.1f}" y="{base}">{number(value)}</text>')
        y += BAR + GAP
    return lines, y + 6


def kind(who: str) -> str:
    if who.startswith("ours"):
        return "ours"
    return "floor" if who.startswith(("floor", "bare", "nothing")) else "peer"


def labels(names: list) -> dict:
    """Returns the label of each bar, with versions, and with the renderer of a scrape where a peer has
    several."""
    peers = [name.partition(": ")[0] for name in names]
    labels = {}
    for name, peer in zip(names, peers):
        label = name if kind(name) == "floor" or peers.count(peer) > 1 else peer
        label = label.replace("0.0.9,", "pytheus-backend-rs 0.0.9,").replace("floor: ", "")
        for crate, version in crates().items():
            if label.startswith(f"{crate},"):
                label = label.replace(crate, f"{crate} {version}", 1)
        labels[name] = label
    return labels
