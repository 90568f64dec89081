"""ARCHITECTURE.md stays one page that is true: its paths exist, its walks are short, and it leads to every decision."""

from __future__ import annotations

import re

import pytest

from app.protocols.listed import PROTOCOLS
from tests.support.examples import text_of
from tests.support.processes import REPOSITORY

_PAGE = "ARCHITECTURE.md"
#: One page is shorter than this.
_BOUND_LINES = 150
_MAX_FILES = 7
_DECISIONS = sorted(path.name for path in (REPOSITORY / "docs/decisions").glob("[0-9]*.md"))
_PAGES = (_PAGE, "CONTRIBUTING.md", "docs/decisions/index.md", *(f"docs/decisions/{name}" for name in _DECISIONS))
_PARTS = ("Context", "Decision", "Why", "Consequences")
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")
_WORD = re.compile(r"[\w.-]+(?:/[\w.-]*)*")
_FILE = re.compile(r"\.(?:py|lua|js|md|json|toml|yml|lock|html)$")
_ROOTS = ("app/", "bench/", "docs/", "scripts/", "tests/")
#: Fetched by scripts/fetch-clients.
_NOT_IN_THE_REPOSITORY = {"app/static/vendor"}
#: Files of the reader.
_FILES_OF_OTHERS = {"config.yml", "sites.yml"}


def paths_in(text: str) -> list[str]:
    """The words in backticks that look like a path of the repository, or like the name of one of its files."""
    words = [word for code in _CODE.findall(_FENCE.sub("", text)) for word in code.split()]
    return [word for word in words if _WORD.fullmatch(word) and (word.startswith(_ROOTS) or _FILE.search(word))]


def exists(path: str) -> bool:
    """Whether the repository holds the path; a name without a folder is looked for at the root and in app."""
    if (REPOSITORY / path).exists() or path in _NOT_IN_THE_REPOSITORY | _FILES_OF_OTHERS:
        return True
    return "/" not in path and any((REPOSITORY / "app").rglob(path))


@pytest.mark.parametrize("page", _PAGES)
def test_paths_exist(page: str) -> None:
    """A path in backticks exists; it begins at the root of the repository."""
    assert [path for path in paths_in(text_of(page)) if not exists(path)] == []


def test_architecture_is_one_page() -> None:
    """ARCHITECTURE.md has fewer than 150 lines."""
    assert len(text_of(_PAGE).splitlines()) < _BOUND_LINES


def walks() -> list[list[str]]:
    """The files of each walk, in order: the columns of the table whose head says `file by file`."""
    _, _, table = text_of(_PAGE).partition("| a message, file by file | an ack, file by file |\n")
    rows = [row.strip("| ").split(" | ") for row in table.partition("\n\n")[0].splitlines()[1:]]
    return [[path for cell in column for path in paths_in(cell)] for column in zip(*rows, strict=True)]


def test_walks_are_short() -> None:
    """A message and an ack each go through at most 7 files, one a step."""
    message, ack = walks()
    for walk in (message, ack):
        assert 1 < len(walk) <= _MAX_FILES
        assert len(set(walk)) == len(walk)
    assert message[0] == "app/protocols/sites/send.py"
    assert ack[-1] == "app/store/lua/ack.lua"


def test_layout_is_whole() -> None:
    """The tree of ARCHITECTURE.md names each folder of app and each protocol."""
    tree = text_of(_PAGE).partition("## Layout\n")[2].partition("\n## ")[0]
    folders = {path.parent.name for path in (REPOSITORY / "app").glob("*/__init__.py")}
    names = folders | {spec.name for spec in PROTOCOLS}
    assert [name for name in sorted(names) if not re.search(rf"\b{name}/", tree)] == []


def test_every_decision_is_listed() -> None:
    """docs/decisions/index.md links each decision once, and ARCHITECTURE.md leads to each by a symptom."""
    listed = re.findall(r"^- .*?\]\((\d.+?\.md)\)", text_of("docs/decisions/index.md"), re.MULTILINE)
    assert sorted(listed) == _DECISIONS
    assert sorted(re.findall(r"\(docs/decisions/(\d.+?\.md)\)", text_of(_PAGE))) == _DECISIONS


def test_decisions_are_numbered() -> None:
    """The numbers of the decisions have no gap."""
    assert [int(name[:4]) for name in _DECISIONS] == list(range(1, len(_DECISIONS) + 1))


@pytest.mark.parametrize("name", _DECISIONS)
def test_a_decision_has_its_parts(name: str) -> None:
    """A decision begins with its number and title, then says context, decision, why and consequences."""
    text = text_of(f"docs/decisions/{name}")
    assert text.startswith(f"# {int(name[:4])}. ")
    assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == list(_PARTS)
