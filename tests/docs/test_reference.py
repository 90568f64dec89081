"""The pages of the reference are made from the code: nothing is missing, and the defaults are those of the server."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType
from typing import Any, get_args

import click
import msgspec
import pytest

from app.cli import recado
from app.config.settings import HookEvent
from app.node.build import _metrics_of
from app.protocols.listed import PROTOCOLS
from app.protocols.messenger.handlers import Standing
from app.protocols.receipts.openapi import openapi_page
from app.protocols.site_keys import INVALID, MISSING
from app.protocols.sites.pusher.events import MOST_CHANNELS
from app.protocols.sites.send_body import RESERVED_EVENTS
from tests.support.configuration import defaults, server_keys, site_keys
from tests.support.examples import text_of
from tests.support.processes import REPOSITORY


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_reference", REPOSITORY / "scripts" / "docs_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """The pages, by their name."""
    made: dict[str, str] = _generator().pages()
    return {path.removeprefix("reference/").removesuffix(".md"): text for path, text in made.items()}


def rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the table below a heading, as cells."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_the_pages(pages: dict[str, str]) -> None:
    """Each has a heading, and its entry in the site's navigation."""
    navigation = (REPOSITORY / "mkdocs.yml").read_text()
    for name, text in pages.items():
        assert text.startswith("# ")
        assert f"reference/{name}.md" in navigation
    assert not (REPOSITORY / "docs" / "reference").exists()


@pytest.mark.parametrize("file", ["config.yml", "sites.yml"])
def test_settings(pages: dict[str, str], file: str) -> None:
    """Every key of the file stands there once, with what it takes and the default of the server."""
    table = {key.strip("`"): (takes, default) for key, takes, default in rows(pages["settings"], file)}
    assert table.keys() == (server_keys() if file == "config.yml" else site_keys())
    assert [key for key, (takes, _) in table.items() if not takes or "a value" in takes] == []
    known = defaults()
    wrong = {key: default for key, (_, default) in table.items() if not is_default(default, known.get(key))}
    # A JWT issuer is one of a list, and so no setting by itself.
    assert {key for key in wrong if not key.startswith("jwt.")} == set()


def is_default(shown: str, known: Any) -> bool:
    """Whether a cell shows this default; times are known in seconds, and shown in the unit of the file."""
    if shown == "none":
        return known in (None, (), {}, "", 0)
    value = msgspec.json.decode(shown.strip("`"))
    known = list(known) if isinstance(known, tuple) else known
    return bool(value == known or (isinstance(known, float) and value == known * 1000) or str(known) == value)


def test_events(pages: dict[str, str]) -> None:
    """Every event is listed, and a page explains it; every event of the messenger has its standing."""
    own = rows(pages["events"], "Of the server to clients of a site")
    assert {event.strip("`") for event, _ in own} == {event for event in RESERVED_EVENTS if event.startswith("_")}
    hooks = rows(pages["events"], "Of webhooks")
    assert [event for event, told in [*own, *hooks] if not told] == []
    assert [event.strip("`") for event, _ in hooks] == list(get_args(HookEvent))
    chat = {name.strip("`"): who for name, who, _ in rows(pages["events"], "Of clients to the messenger")}
    assert (chat["login"], chat["message"], chat["user_create"]) == ("stranger", "user", "user")
    assert set(chat.values()) <= {one.name.lower() for one in Standing}


def test_errors(pages: dict[str, str]) -> None:
    """Texts stand there with their status and code, constants in them as figures."""
    sites = rows(pages["errors"], "Sites")
    assert ["401", "", "auth_version: expected 1.0."] in sites
    assert ["400", "", f"channels: expected 1 to {MOST_CHANNELS} channels, got …."] in sites
    receipts = rows(pages["errors"], "Receipts")
    assert ["404", "`unknown_message`", "No message of this site has this id."] in receipts
    assert ["503", "`journal_behind`", "The journal is behind, try again."] in receipts
    statuses = {
        status
        for heading in ("Sites", "Receipts", "Topics", "Channels")
        for status, _, _ in rows(pages["errors"], heading)
    }
    assert all(re.fullmatch(r"[45]\d\d|…|", status) for status in statuses)
    assert "- too many wrong keys\n" in pages["errors"]
    assert ["1009", "too big"] in rows(pages["errors"], "Close codes of WebSockets")


def test_texts_in_constants(pages: dict[str, str]) -> None:
    """A text that stands in a constant of its module is shown, too."""
    assert {MISSING, INVALID} <= {text for _, _, text in rows(pages["errors"], "Every door")}


def test_metrics(pages: dict[str, str]) -> None:
    """The series are those of docs/metrics.md, which is compared with a scrape elsewhere."""
    named = set(re.findall(r"^\| `(recado_\w+)`", pages["metrics"], re.MULTILINE))
    assert len(named) == len(list(_metrics_of(PROTOCOLS)))
    assert named <= set(re.findall(r"`(recado_\w+)`", text_of("docs/metrics.md")))


def test_paths_and_operations(pages: dict[str, str]) -> None:
    """Paths of every protocol stand there, those of OpenAPI, and the operations of every part."""
    paths = {path.strip("`"): name for path, name in rows(pages["api"], "Paths")}
    expected = {"/send": "sites", "/apps/…": "sites", "/messages/{id}": "receipts", "/metrics": "the node"}
    assert expected.items() <= paths.items()
    assert set(paths.values()) >= {"channels", "topics", "messenger", "console", "webhooks"}
    described = {(row[0], row[1].strip("`")) for row in rows(pages["api"], "For backends")}
    openapi = msgspec.json.decode(openapi_page())["paths"]
    assert {
        (method.upper(), path) for path, ways in openapi.items() for method in ways if method != "parameters"
    } == described
    operations = {(row[0], row[1].strip("`")): row[3] for row in rows(pages["api"], "For operators")}
    assert operations["POST", "/api/v1/sites/{site}/disconnect"] == "operator"
    assert operations["POST", "/api/v1/sites"] == "admin"
    assert set(operations.values()) == {"viewer", "operator", "admin"}


def test_commands(pages: dict[str, str]) -> None:
    """Every command has its help."""
    headings = set(re.findall(r"^## (recado.*)$", pages["commands"], re.MULTILINE))
    context = click.Context(recado)
    own = {f"recado {name}" for name in recado.list_commands(context) if not recado.commands[name].hidden}
    assert own | {"recado", "recado sites list"} <= headings
    assert "--workers" in pages["commands"]
