"""Writes overview.svg beside it: the picture of processes, stores and scrapers on the first page.

`python3 docs/overview.py` writes it again after a change; a test compares both.
"""

from __future__ import annotations

from pathlib import Path

PICTURE = Path(__file__).with_suffix(".svg")

WIDTH, HEIGHT = 720, 560

STYLE = """
.page { fill: #ffffff; stroke: #d0d7de } text { fill: #1f2328; font: 13px sans-serif; text-anchor: middle }
.title { font-weight: bold } .note { font-size: 12px; fill: #57606a }
.machine { fill: none; stroke: #8c959f; stroke-dasharray: 4 3 } .process { fill: #ddf4ff; stroke: #54aeff }
.store { fill: #dafbe1; stroke: #1a7f37 } .scraper { fill: #fff1e5; stroke: #bc4c00 }
.count { stroke: #1a7f37; fill: none; stroke-width: 2 }
.scrape { stroke: #bc4c00; fill: none; stroke-width: 2 }
.count-tip { fill: #1a7f37 } .scrape-tip { fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117; stroke: #30363d } text { fill: #e6edf3 } .note { fill: #9ea7b3 }
.machine { stroke: #6e7681 } .process { fill: #0c2d6b; stroke: #388bfd }
.store { fill: #033a16; stroke: #3fb950 } .scraper { fill: #5a1e02; stroke: #f0883e }
.count { stroke: #3fb950 } .scrape { stroke: #f0883e }
.count-tip { fill: #3fb950 } .scrape-tip { fill: #f0883e }
}
""".strip()


def text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{words}</text>'


def box(x: float, y: float, width: float, height: float, kind: str, *lines: str) -> str:
    """A box with lines of text in its middle."""
    first = y + height / 2 + 4.5 - 8 * (len(lines) - 1)
    parts = [f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5"/>']
    parts += [text(x + width / 2, first + 16 * number, line) for number, line in enumerate(lines)]
    return "\n".join(parts)


def arrow(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """An arrow from the first point to the second one."""
    return f'<path class="{kind}" marker-end="url(#{kind}-tip)" d="M{x1:g} {y1:g} L{x2:g} {y2:g}"/>'


def marker(kind: str) -> str:
    return (
        f'<marker id="{kind}-tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto" '
        f'markerUnits="userSpaceOnUse"><path class="{kind}-tip" d="M0 0 L8 4 L0 8 Z"/></marker>'
    )


def picture() -> str:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>Processes count in a store; Prometheus scrapes any one process, or a side-car</title>",
        f"<style>\n{STYLE}\n</style>",
        f"<defs>{marker('count')}{marker('scrape')}</defs>",
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="6"/>',
        text(66, 28, "scraper", "title"),
        text(330, 28, "processes that count", "title"),
        text(640, 28, "store", "title"),
        box(16, 44, 100, 500, "scraper", "Prometheus"),
    ]

    # Memory: the values live in the process.
    parts += [
        box(210, 44, 240, 60, "machine"),
        box(222, 56, 100, 36, "process", "program"),
        arrow(322, 74, 352, 74, "count"),
        box(352, 56, 86, 36, "store", "memory"),
        text(640, 71, "one process:"),
        text(640, 88, "values stay in it"),
        arrow(116, 74, 222, 74, "scrape"),
    ]

    # Shared memory: one machine.
    parts += [
        box(210, 124, 240, 170, "machine"),
        text(330, 143, "one machine", "note"),
        box(222, 152, 102, 36, "process", "worker"),
        box(336, 152, 102, 36, "process", "worker"),
        box(222, 198, 102, 36, "process", "worker"),
        box(336, 198, 102, 36, "process", "C program"),
        box(222, 244, 216, 36, "process", "side-car (only reads)"),
        box(570, 172, 136, 62, "store", "a file that all", "processes map"),
        arrow(450, 203, 570, 203, "count"),
        text(510, 192, "each inc(),", "note"),
        text(510, 222, "at once", "note"),
        arrow(116, 170, 222, 170, "scrape"),
        text(166, 160, "any one", "note"),
        arrow(116, 262, 222, 262, "scrape"),
        text(166, 252, "or", "note"),
    ]

    # Redis: many machines.
    parts += [
        box(210, 314, 240, 78, "machine"),
        text(330, 333, "machine 1", "note"),
        box(222, 342, 102, 36, "process", "worker"),
        box(336, 342, 102, 36, "process", "worker"),
        box(210, 408, 240, 136, "machine"),
        text(330, 427, "machine 2", "note"),
        box(222, 436, 102, 36, "process", "worker"),
        box(336, 436, 102, 36, "process", "cron job"),
        box(222, 484, 216, 36, "process", "side-car (only reads)"),
        box(570, 392, 136, 62, "store", "Redis", "or Valkey"),
        arrow(450, 356, 570, 408, "count"),
        arrow(450, 476, 570, 438, "count"),
        text(510, 412, "batches", "note"),
        text(510, 428, "every 5 ms", "note"),
        arrow(116, 360, 222, 360, "scrape"),
        text(166, 350, "any one", "note"),
        arrow(116, 502, 222, 502, "scrape"),
        text(166, 492, "or", "note"),
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
