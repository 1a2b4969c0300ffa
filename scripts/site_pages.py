"""The hook of mkdocs.yml: brings into the site what the pages link to outside of docs/.

The pages of docs/ link to the rest of the tree by relative paths, which work where they lie. The site has no
such tree, so each of these paths gets a place in it:

- a page at the root of the tree, such as CHANGELOG.md, becomes a page;
- a header of the C interface becomes the page that Doxygen has written for it, and src/lib.rs the first page
  of rustdoc; `make docs` runs both first;
- a picture or a table of results becomes a file below files/;
- any other file becomes a page below source/ that shows its text, and a folder one that lists its files.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent

#: The pages at the root of the tree, by their place in the site.
ROOT_PAGES = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}

#: What other programs have written, by its place in the site.
REFERENCES = {
    "c-api": ROOT / "build" / "doxygen" / "html",
    "rust-api": ROOT / "build" / "rustdoc" / "doc",
}
#: The pages of the references that describe a source file.
DESCRIBED = {
    "include/pytheus_backend_rs.h": "c-api/pytheus__backend__rs_8h.html",
    "include/pytheus_backend_rs.hpp": "c-api/pytheus__backend__rs_8hpp.html",
    "src/lib.rs": "rust-api/pytheus_backend_rs/index.html",
}

LANGUAGES = {
    ".c": "c",
    ".go": "go",
    ".js": "js",
    ".md": "markdown",
    ".py": "python",
    ".rb": "ruby",
    ".rs": "rust",
    ".ru": "ruby",
    ".sh": "sh",
    ".toml": "toml",
    ".yaml": "yaml",
    ".yml": "yaml",
}

#: A fenced block, which is left as it is.
FENCE = re.compile(r"^(```+).*?^\1$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMENT = re.compile(r"^(<!--.*-->)$", re.MULTILINE)


def on_files(files: Files, config: Any, **_: Any) -> Files:
    for path, uri in ROOT_PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    for place, folder in REFERENCES.items():
        for file in sorted(folder.rglob("*")):
            # rustdoc brings the licence of a font, which is no page of this site.
            if file.is_file() and file.suffix != ".md":
                uri = f"{place}/{file.relative_to(folder).as_posix()}"
                files.append(File.generated(config, uri, abs_src_path=str(file)))

    waiting = [
        target
        for source in files.documentation_pages()
        for target in links(Path(source.abs_src_path or "").read_text("utf-8"), tree_path(source.src_uri))
    ]
    while waiting:
        path = waiting.pop()
        uri = site_uri(path)
        if files.get_file_from_path(uri) is not None or not (ROOT / path).exists():
            continue
        if path in DESCRIBED:
            # The reference was not written: mkdocs reports the link.
            continue
        if not uri.startswith("source/"):
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
        elif (ROOT / path).is_dir():
            inside = list(files_of(path))
            files.append(File.generated(config, uri, content=folder_page(path, inside)))
            waiting += inside
        else:
            files.append(File.generated(config, uri, content=source_page(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    place = page.file.src_uri

    def text(part: str) -> str:
        # A comment beside a table would swallow its first line.
        part = COMMENT.sub(r"\n\1\n", part)
        return LINK.sub(lambda link: f"]({in_site(link[1], place)})", part)

    return "".join(part if fenced else text(part) for fenced, part in parts(markdown))


def parts(markdown: str) -> Iterator[tuple[bool, str]]:
    """Returns the fenced blocks of a page, and what is between them."""
    end = 0
    for fence in FENCE.finditer(markdown):
        yield False, markdown[end : fence.start()]
        yield True, fence[0]
        end = fence.end()
    yield False, markdown[end:]


def links(markdown: str, page: str) -> Iterator[str]:
    """Returns the paths in the tree that a page links to, without anchors."""
    for fenced, part in parts(markdown):
        for link in LINK.findall("" if fenced else part):
            if not is_elsewhere(link):
                yield target_of(link, page)


def is_elsewhere(link: str) -> bool:
    return re.match(r"[a-z]+:|#", link) is not None


def target_of(link: str, page: str) -> str:
    """Returns the path in the tree that a link of a page leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link.partition("#")[0]))


def in_site(link: str, place: str) -> str:
    """Returns a link of the tree as the page at this place of the site writes it."""
    if is_elsewhere(link):
        return link
    _, hash_sign, anchor = link.partition("#")
    uri = site_uri(target_of(link, tree_path(place)))
    return posixpath.relpath(uri, posixpath.dirname(place) or ".") + hash_sign + anchor


def tree_path(uri: str) -> str:
    """Returns where a page of the site lies in the tree."""
    for path, place in ROOT_PAGES.items():
        if place == uri:
            return path
    if uri.startswith("source/"):
        return uri.removeprefix("source/")
    return f"docs/{uri}"


def site_uri(path: str) -> str:
    """Returns where the site has a file or folder of the tree."""
    if path in ROOT_PAGES:
        return ROOT_PAGES[path]
    if path in DESCRIBED:
        return DESCRIBED[path]
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.endswith((".svg", ".png", ".json")):
        return f"files/{path}"
    return f"source/{path}/index.md" if (ROOT / path).is_dir() else f"source/{path}.md"


def files_of(folder: str) -> Iterator[str]:
    """Returns the source files of a folder, which a build may have left others in."""
    for path in sorted((ROOT / folder).rglob("*")):
        relative = path.relative_to(ROOT)
        if path.suffix in LANGUAGES and "build" not in relative.parts:
            yield relative.as_posix()


def folder_page(folder: str, inside: Iterable[str]) -> str:
    # The page lies in the folder, as its links do in the tree.
    lines = [f"- [{path}]({posixpath.relpath(path, folder)})" for path in inside]
    return page(folder, "\n".join(lines))


def source_page(path: str) -> str:
    text = (ROOT / path).read_text("utf-8")
    fence = "````" if "```" in text else "```"
    language = LANGUAGES.get(Path(path).suffix, "text")
    return page(path, f"{fence}{language}\n{text.rstrip()}\n{fence}")


def page(title: str, body: str) -> str:
    """A page that the search does not find: it would find each line of the code."""
    return f"---\ntitle: {title}\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n\n# {title}\n\n{body}\n"
