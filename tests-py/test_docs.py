"""Holds README.md and docs/ against what they describe: examples run, links resolve, tables are complete.

Each ```python block is a program of its own; each ```c block compiles as the inside of a function.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytheus.backends import load_backend
from pytheus_backend_rs import RedisBackend, SingleProcessBackend, generate_metrics

from programs import run_program
from redis_server import Server

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("docs/**/*.md")])


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(language: str) -> list[Any]:
    """The code blocks of all pages in one language; the parameter's id is the page and the block's number."""
    found = []
    for page in PAGES:
        texts = re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
        found += [pytest.param(text, id=f"{name(page)}-{number}") for number, text in enumerate(texts, 1)]
    return found


def section(page: str, begin: str, end: str) -> str:
    """The text of a page between two lines."""
    text = (ROOT / page).read_text("utf-8")
    return text[text.index(begin) + len(begin) : text.index(end, text.index(begin))]


@pytest.mark.parametrize("example", blocks("python"))
def test_a_python_example_runs_as_it_stands(server: Server, tmp_path: Path, example: str) -> None:
    """But for ports and paths."""
    example = example.replace("6379", str(server.port)).replace("9464", "0")
    example = example.replace("/dev/shm/my-service-metrics", str(tmp_path / "metrics"))
    run_program(example, server.config, prelude="")


@pytest.mark.parametrize("example", blocks("c"))
def test_a_c_example_compiles(tmp_path: Path, example: str) -> None:
    handles = (
        ""
        if "Backend *backend = NULL;" in example
        else "Backend *backend = NULL; BackendError *error = NULL;\n"
    )
    source = "#include <pytheus_backend_rs.h>\n#include <stdio.h>\nint example(void) {\n"
    path = tmp_path / "example.c"
    path.write_text(f"{source}{handles}{example}\nreturn 0;\n}}\n", encoding="utf-8")
    compiler = shutil.which("cc")
    assert compiler, "a C compiler is needed"
    options = [
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Wno-unused",
        "-Werror",
        "-fsyntax-only",
        f"-I{ROOT / 'include'}",
    ]
    done = subprocess.run([compiler, *options, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readme_has_the_usage_example_of_0_0_9() -> None:
    examples = [example.values[0] for example in blocks("python") if example.id.startswith("README.md")]
    assert any("load_backend(" in example and "RedisBackend" in example for example in examples)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_resolves(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken, f"{name(page)} links to what is not there: {', '.join(broken)}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    """Of the source tree: what a build or a program makes has other names."""
    folders = "|".join(
        path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("build", "target")
    )
    paths = set(
        re.findall(
            rf"(?:`|^ {{4}}.*?\s)((?:{folders})/[\w./@-]*[\w/])(?![\w*./@-])",
            page.read_text("utf-8"),
            re.MULTILINE,
        )
    )
    missing = sorted(path for path in paths if not (ROOT / path).exists())
    assert not missing, f"{name(page)} names what is not there: {', '.join(missing)}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / ".github" / "workflows" / "ci.yml"], ids=name)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(
        re.findall(r"(?:^ {4}|`|run: |HOME\" )make ([a-z][\w-]*)", page.read_text("utf-8"), re.MULTILINE)
    )
    assert named <= targets, f"{name(page)} names targets that are not there: {named - targets}"


def test_every_option_of_the_side_car_that_a_page_names_exists() -> None:
    known: dict[str, str] = {}
    unknown = []
    for page in PAGES:
        command_lines = re.findall(
            r"pytheus-backend-rs ([a-z]+)\b([^\n`|]* --[^\n`|]*)", page.read_text("utf-8")
        )
        for command, rest in command_lines:
            if command not in known:
                program = [sys.executable, "-m", "pytheus_backend_rs", command, "--help"]
                known[command] = subprocess.run(program, capture_output=True, text=True, check=True).stdout
            options = re.findall(r"(?<!\S)--[a-z-]+", rest)
            unknown += [
                f"{name(page)}: {command} {option}" for option in options if option not in known[command]
            ]
    assert known, "the pages name commands"
    assert not unknown, ", ".join(unknown)


def test_every_environment_variable_is_documented() -> None:
    pages = "".join(page.read_text("utf-8") for page in PAGES)
    folders = ["src", "side-car/src", "bindings-python", "bindings-ruby/lib"]
    sources = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".rs", ".py", ".rb")
    ]
    assert sources
    missing = {
        variable
        for path in sources
        for variable in re.findall(r"\bPYTHEUS_BACKEND_[A-Z_]+\b", path.read_text("utf-8"))
        if variable not in pages
    }
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_lines_fit_their_width(page: Path) -> None:
    """Tables and links to images may be longer, because Markdown cannot wrap them."""
    lines = enumerate(page.read_text("utf-8").splitlines(), 1)
    wide = [number for number, line in lines if len(line) > 120 and not line.startswith(("|", "!"))]
    assert not wide, f"{name(page)} has lines of more than 120 columns: {wide}"


def test_the_picture_of_the_whole_is_what_its_source_draws() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import overview
    finally:
        sys.path.pop(0)
    assert overview.PICTURE.read_text("utf-8") == overview.picture(), "run docs/overview.py"


def test_the_costs_in_the_readme_are_the_results_of_the_benchmark() -> None:
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        import readme_table
    finally:
        sys.path.pop(0)
    shown = section("README.md", readme_table.BEGIN, readme_table.END)
    assert shown == readme_table.table(), "run bench/readme_table.py"


def test_the_tables_of_the_scaling_page_are_the_results_of_the_benchmark() -> None:
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        import scaling_page
    finally:
        sys.path.pop(0)
    page = scaling_page.PAGE.read_text("utf-8")
    tables = scaling_page.tables(json.loads(scaling_page.RESULTS.read_text("utf-8")))
    assert page.count("<!-- table: ") == len(tables)
    for name, table in tables.items():
        shown = section("docs/scaling.md", scaling_page.begin(name), scaling_page.END)
        assert shown == table, f"the table {name!r} is not that of the results: run bench/scaling_page.py"


def test_every_statistic_is_documented() -> None:
    table = section("docs/operating.md", "<!-- statistics -->\n", "<!-- end of statistics -->")
    documented = re.findall(r"^\| `(\w+)`", table, re.MULTILINE)
    load_backend(SingleProcessBackend, {"self_metrics": True})
    shown = re.findall(r"^# TYPE (pytheus_backend_\w+)", generate_metrics(), re.MULTILINE)
    # What only a store with a server has is not shown in memory.
    assert set(shown) <= set(documented)


def test_every_statistic_of_a_server_is_documented(server: Server) -> None:
    table = section("docs/operating.md", "<!-- statistics -->\n", "<!-- end of statistics -->")
    load_backend(RedisBackend, {**server.config, "self_metrics": True})
    shown = re.findall(r"^# TYPE (pytheus_backend_\w+)", generate_metrics(), re.MULTILINE)
    assert set(shown) == set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
