"""The facts that docs/releasing.md relies on: one version, a changelog with room, an image built of what exists."""

from __future__ import annotations

import re
import tomllib

import yaml

from tests.support.processes import REPOSITORY

_COPY = re.compile(r"^COPY (?!--from)(.+)$", re.MULTILINE)
#: Made by an earlier stage, or by scripts/fetch-clients.
_MADE = {"app/static/vendor"}


def test_the_image_is_built_of_what_exists() -> None:
    """Each file that the Dockerfile copies exists; the server's port is the one that it exposes."""
    text = (REPOSITORY / "Dockerfile").read_text()
    sources = [source for line in _COPY.findall(text) for source in line.split()[:-1]]
    assert sources
    assert [source for source in sources if source not in _MADE and not (REPOSITORY / source).exists()] == []
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    port = re.search(r"^EXPOSE (\d+)$", text, re.MULTILINE)
    assert port
    assert compose["services"]["recado"]["ports"] == [f"{port[1]}:{port[1]}"]


def test_the_changelog_has_room() -> None:
    """The changelog begins with Unreleased; the source archive has the folder deploy."""
    headings = re.findall(r"^## (.*)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    built = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert "/deploy" in built["sdist"]["include"]
