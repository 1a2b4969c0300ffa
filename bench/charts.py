"""Draws the charts of docs/benchmark.md: horizontal bars in SVG, readable on a white and on a dark page.

Each chart has a background that follows the reader's colour scheme. A bar that is far longer than the others
is cut and marked; every bar has its value beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import calls
import engine_calls
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
.cut { fill: #ffffff }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117; stroke: #30363d } text { fill: #e6edf3 }
.ours { fill: #3fb950 } .peer { fill: #6e7681 } .floor { fill: #30363d } .cut { fill: #0d1117 }
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
    return paths


def chart(panels: list, figures) -> str:
    body, top = [], 8
    for panel in panels:
        lines, top = draw(panel, figures, top)
        body += lines
    height = top + 4
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
            f' viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape('; '.join(panel.title for panel in panels))}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
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
