"""The documentation's site needs no network and stays in its folder; files outside of it link to what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import REPOSITORY

#: Files that GitHub and editors show, and mkdocs does not: it checks the links of docs/ itself.
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "ARCHITECTURE.md", "SECURITY.md", "bench/README.md")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_LOADED = re.compile(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(?:https?:)?//[^>]+>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site: `mkdocs build --strict` succeeds, and writes nothing but the site."""
    before = files_of_the_docs()
    site = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    built = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    assert files_of_the_docs() == before
    return site


def test_site_is_built(site: Path) -> None:
    """The site has every page, and no page loads anything from elsewhere."""
    pages = {str(path.relative_to(site)): path.read_text() for path in site.rglob("*.html")}
    docs = REPOSITORY / "docs"
    assert {str(path.relative_to(docs).with_suffix(".html")) for path in docs.rglob("*.md")} <= pages.keys()
    assert [found for text in pages.values() for found in _LOADED.findall(text) if "canonical" not in found] == []


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("terminate_connections", "moving/pusher.html"),
        ("pulled plug", "tutorial.html"),
        ("recado_sends_total", "reference/metrics.html"),
        ("unknown_message", "reference/errors.html"),
        ("userRoomPrefix", "reference/settings.html"),
        ("drain_timeout", "operating.html"),
    ],
)
def test_the_search_finds(site: Path, words: str, page: str) -> None:
    """The search of the site finds a page by its words, as a browser looks for them."""
    assert '"search/main.js"' in (site / "index.html").read_text()
    done = subprocess.run(
        ["node", "-e", _SEARCH, words], cwd=site / "search", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert page in [found.partition("#")[0] for found in done.stdout.splitlines()]


#: The steps of search/worker.js, which are those of a browser.
_SEARCH = """
const lunr = require("./lunr.js");
const index = JSON.parse(require("fs").readFileSync("search_index.json"));
if (index.config && index.config.separator.length) lunr.tokenizer.separator = new RegExp(index.config.separator);
const found = lunr(function () {
  this.field("title");
  this.field("text");
  this.ref("location");
  for (const doc of index.docs) this.add(doc);
}).search(process.argv[1]);
for (const one of found) console.log(one.ref);
"""


def files_of_the_docs() -> list[Path]:
    """The files in docs/, and the folder site/ if it exists, into which mkdocs writes by default."""
    return sorted([*(REPOSITORY / "docs").rglob("*"), *REPOSITORY.glob("site")])


@pytest.mark.parametrize("name", OUTSIDE)
def test_links_lead_somewhere(name: str) -> None:
    """Each link to a file names one that exists, and each anchor a heading in it."""
    file = REPOSITORY / name
    for target in _LINK.findall(_FENCE.sub("", file.read_text())):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = file.parent / path if path else file
        assert linked.exists(), target
        assert not anchor or anchor in anchors_of(linked), target


def anchors_of(file: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", file.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_readme_is_short() -> None:
    """README.md has less than 150 lines, and its first 30 name both commands and show the demo."""
    lines = (REPOSITORY / "README.md").read_text().splitlines()
    assert len(lines) < 150
    first_screen = "\n".join(lines[:30])
    for expected in ("scripts/serve", "scripts/test", "docs/images/demo.png", "**Contents:**"):
        assert expected in first_screen
