"""The documentation as tests see it: its pages, and the examples in their fenced blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.support.processes import REPOSITORY

#: README.md and the pages of the site. Decisions hold no examples that a reader would run.
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md")))
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_SCRIPT = re.compile(r'<script(?: src="([^"]*)")?>(.*?)</script>', re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One fenced block of a page; `number` counts the page's blocks of its language from 1."""

    page: str
    language: str
    number: int
    text: str

    def __str__(self) -> str:
        """The name in pytest's output."""
        return f"{self.page} {self.language} {self.number}"

    @property
    def scripts(self) -> list[tuple[str, str]]:
        """The scripts of an HTML example: (the URL that it is loaded from, or "", and its text)."""
        return [(source, text) for source, text in _SCRIPT.findall(self.text)]


def text_of(page: str) -> str:
    """The text of a page."""
    return (REPOSITORY / page).read_text()


def examples_of(page: str) -> list[Example]:
    """The examples of a page, in their order."""
    seen: dict[str, int] = {}
    found = []
    for language, text in _FENCE.findall(text_of(page)):
        seen[language] = seen.get(language, 0) + 1
        found.append(Example(page, language, seen[language], text))
    return found


def all_examples() -> list[Example]:
    """The examples of all pages."""
    return [example for page in PAGES for example in examples_of(page)]


def example(page: str, language: str, number: int = 1) -> Example:
    """The example with this page, language and number; AssertionError if there is none."""
    wanted = [one for one in examples_of(page) if (one.language, one.number) == (language, number)]
    assert wanted, f"{page}: expected an example {number} in {language}"
    return wanted[0]
