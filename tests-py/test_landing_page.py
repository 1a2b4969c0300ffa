"""The exporter's landing page in a real browser, as a person would look at it."""

from __future__ import annotations

import subprocess
from html.parser import HTMLParser
from pathlib import Path

from pytheus import backends
from pytheus.metrics import Counter
from pytheus_backend_rs import SingleProcessAtomicBackend, start_http_server


class Page(HTMLParser):
    """The title, the links and the visible text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: dict[str, str] = {}
        self.text = ""
        self._href: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._href = dict(attrs).get("href") if tag == "a" else self._href

    def handle_endtag(self, tag: str) -> None:
        self._href = None if tag == "a" else self._href

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._href is not None:
            self.links[data.strip()] = self._href


def browse(url: str, folder: Path, *options: str) -> str:
    """The page as the browser has it after loading, as HTML."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--disable-background-networking", "--no-first-run", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run([*command, *options, url], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_person_finds_the_metrics_from_the_landing_page(tmp_path: Path) -> None:
    backends.load_backend(SingleProcessAtomicBackend, {})
    Counter("requests_total", "Requests served.").inc(7)
    with start_http_server(0) as server:
        root = f"http://127.0.0.1:{server.port}"
        page = Page(browse(f"{root}/", tmp_path, "--dump-dom"))
        assert "pytheus" in page.text.lower()
        link = next(href for text, href in page.links.items() if text.lower() == "metrics")
        metrics = Page(browse(f"{root}/{link.lstrip('/')}", tmp_path, "--dump-dom"))
        assert "# HELP requests_total Requests served." in metrics.text
        assert "\nrequests_total 7" in metrics.text


def test_the_landing_page_is_visible(tmp_path: Path) -> None:
    backends.load_backend(SingleProcessAtomicBackend, {})
    with start_http_server(0) as server:
        pictures = [tmp_path / "page.png", tmp_path / "blank.png"]
        browse(f"http://127.0.0.1:{server.port}/", tmp_path, f"--screenshot={pictures[0]}", "--window-size=800,600")
        browse("about:blank", tmp_path, f"--screenshot={pictures[1]}", "--window-size=800,600")
    page, blank = (picture.read_bytes() for picture in pictures)
    assert page.startswith(b"\x89PNG")
    # A page with something on it does not compress as an empty one does.
    assert len(page) > 2 * len(blank)
