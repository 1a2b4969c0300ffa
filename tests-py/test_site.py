"""The site of the documentation: it builds without a warning, its links lead somewhere, and its pages fit a
window.

`make test-docs` runs these tests, because they need Doxygen and a browser. PYTHEUS_TEST_SCREENSHOTS names a
folder that gets a picture of each page.
"""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from browser import Browser, browsing

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "site"
SCREENSHOTS = os.environ.get("PYTHEUS_TEST_SCREENSHOTS")

#: Width and height of a window on a desk and on a phone.
WINDOWS = [(1280, 900), (390, 844)]

#: Pages, and what their titles begin with.
TITLES = {
    "index.html": "First service",
    "python.html": "pytheus",
    "python-reference.html": "Reference",
    "redis.html": "Redis and Valkey",
    "benchmark.html": "Benchmark",
    "recipes/fastapi.html": "FastAPI",
    "source/examples/c/count.c.html": "examples/c/count.c",
}


class Html(HTMLParser):
    """What a page links to and loads, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag in ("script", "img", "iframe", "source") and "src" in values:
            self.loaded.append(values["src"])
        elif tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(values["href"])
        elif "href" in values:
            self.links.append(values["href"])


@pytest.fixture(scope="session")
def site() -> Path:
    """Builds the site as a user does."""
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    done = subprocess.run(
        ["make", "--silent", "docs"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout.lower(), done.stdout
    return SITE


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[Path, Html]:
    """Returns the pages that mkdocs has written, and those of Doxygen and rustdoc."""
    return {path: Html(path) for path in site.rglob("*.html")}


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Serves the site, and returns the address of its first page."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(site))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


def test_every_link_and_anchor_of_the_site_leads_somewhere(site: Path, pages: dict[Path, Html]) -> None:
    broken = []
    for page, html in pages.items():
        # Its links to lines of the source have anchors that a script makes.
        if page.relative_to(site).parts[0] == "rust-api":
            continue
        # The page for unknown addresses links from the root of the server.
        folder = site if page.name == "404.html" else page.parent
        for link in [*html.links, *html.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (folder / unquote(parts.path).lstrip("/" if page.name == "404.html" else "")).resolve()
            if not parts.path:
                target = page
            elif target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            if not target.exists():
                broken.append(f"{page.relative_to(site)}: {link}")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                broken.append(f"{page.relative_to(site)}: {link} has no such anchor")
    assert not broken, "\n".join(broken)


def test_no_page_loads_anything_from_another_host(site: Path, pages: dict[Path, Html]) -> None:
    foreign = [
        f"{page.relative_to(site)}: {source}"
        for page, html in pages.items()
        for source in html.loaded
        if urlsplit(source).netloc
    ]
    assert not foreign, "\n".join(foreign)


@pytest.mark.parametrize(("width", "height"), WINDOWS)
def test_every_page_fits_the_window(
    site: Path, address: str, browser: Browser, width: int, height: int
) -> None:
    wide = []
    for path in sorted(site.rglob("*.html")):
        page = path.relative_to(site).as_posix()
        # Other programs have made the pages of the references.
        if page.startswith(("c-api/", "rust-api/")) or page == "404.html":
            continue
        browser.open(address + page, width, height)
        shown = browser.evaluate("document.documentElement.scrollWidth")
        if shown > width:
            wide.append(f"{page} is {shown} pixels wide")
        assert not browser.problems, f"{page}: {browser.problems}"
        assert all(request.startswith((address, "data:")) for request in browser.requests), browser.requests
        if SCREENSHOTS:
            Path(SCREENSHOTS, f"{page.replace('/', '-')}-{width}.png").write_bytes(browser.screenshot())
    assert not wide, f"in a window of {width} pixels: {', '.join(wide)}"


@pytest.mark.parametrize("page", TITLES)
def test_a_page_has_its_title(address: str, browser: Browser, page: str) -> None:
    browser.open(address + page, *WINDOWS[0])
    assert browser.evaluate("document.title").startswith(TITLES[page])
    assert browser.evaluate("document.querySelectorAll('article h1').length") == 1


def test_pictures_are_shown(address: str, browser: Browser) -> None:
    for page, least in [("index.html", 1), ("benchmark.html", 7)]:
        browser.open(address + page, *WINDOWS[0])
        widths = browser.evaluate("[...document.querySelectorAll('article img')].map(i => i.naturalWidth)")
        assert len(widths) >= least and all(widths), f"{page}: {widths}"


def test_the_search_finds_a_page(address: str, browser: Browser) -> None:
    browser.open(address + "index.html?q=preload", *WINDOWS[0])
    browser.wait_for("document.querySelectorAll('.md-search-result__item').length")
    found = browser.evaluate("document.querySelector('.md-search-result__list').innerText")
    assert "gunicorn" in found
    assert not browser.problems
