"""The Lua scripts in the form that Redis gets."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from app.config.settings import CANARY_SITE
from app.redis.scripts import load_scripts, packed_scripts
from app.store.keys import prefix
from tests.support.processes import REPOSITORY

FILES = sorted((REPOSITORY / "app").rglob("lua/*.lua"))
FRAGMENTS = {file.stem[1:]: file.read_text() for file in FILES if file.stem[0] == "_"}
#: Fragments without functions.
STATEMENTS = {"site", "frees"}


def functions_of(text: str) -> set[str]:
    """The names of the functions at the top of a text."""
    return set(re.findall(r"^local function (\w+)", text, re.MULTILINE))


def calls_of(text: str) -> set[str]:
    """The names that a text calls."""
    return set(re.findall(r"(?<![.\w])(\w+)\(", re.sub(r"--.*", "", text)))


def includes_of(text: str) -> list[str]:
    """The names of the fragments in a text's include lines."""
    return re.findall(r"^-- include (\w+)$", text, re.MULTILINE)


@pytest.mark.parametrize("journal_backlog", [0, 1_000])
@pytest.mark.parametrize("name", load_scripts())
def test_a_script_has_the_functions_that_it_calls(name: str, journal_backlog: int) -> None:
    """No script calls a function of a fragment that it does not include; each fragment stands in it once."""
    text = load_scripts(journal_backlog=journal_backlog)[name].text
    assert "end if" not in text or journal_backlog
    known = set().union(*map(functions_of, FRAGMENTS.values()))
    assert calls_of(text) & known <= set(re.findall(r"^ *local function (\w+)", text, re.MULTILINE))
    top = re.findall(r"^local function (\w+)", text, re.MULTILINE)
    assert len(top) == len(set(top))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_script_includes_only_what_it_uses(file: Path) -> None:
    """Each run of a script creates all its functions, so a fragment that nobody uses costs time."""
    text = file.read_text()
    for name in set(includes_of(text)) & FRAGMENTS.keys() - STATEMENTS:
        offered = functions_of(FRAGMENTS[name]) | set(re.findall(r"^local (\w+) =", FRAGMENTS[name], re.MULTILINE))
        assert offered & set(re.findall(r"\w+", re.sub(r"--.*", "", text))), f"{name} is not used"


def test_scripts_carry_their_digest() -> None:
    """The digest of a script is the SHA-1 of its text; only scripts that tell nodes contain `tell`."""
    scripts = load_scripts()
    assert set(scripts) >= {"send", "connect", "ack", "disconnect", "replay", "settle", "expire", "bury", "beat"}
    assert not [name for name in scripts if name.startswith("_")]
    for script in scripts.values():
        assert script.digest == hashlib.sha1(script.text.encode()).hexdigest()
    assert "local function tell" in scripts["send"].text
    assert "local function tell" not in scripts["settle"].text


def test_a_cluster_has_scripts_of_its_own() -> None:
    """In a Cluster a site's scripts publish on its shard: their texts and digests differ."""
    one, many = load_scripts(), load_scripts(is_sharded=True)
    assert one.keys() == many.keys()
    assert one["send"].digest != many["send"].digest
    assert one["beat"] == many["beat"]
    assert "IS_SHARDED = true" in many["send"].text


def test_the_hidden_site_has_no_journal() -> None:
    """With a journal the scripts write none for the canary's site, whose prefix they know as the store makes it."""
    text = load_scripts(journal_backlog=500)["send"].text
    assert f"local HIDDEN = '{prefix(CANARY_SITE)}'\n" in text
    for script in load_scripts(journal_backlog=500).values():
        # Each place that writes into the stream asks first.
        assert script.text.count("if P == HIDDEN then return") == script.text.count("'XADD', P .. 'fate'"), script.name
    assert "HIDDEN" not in load_scripts()["send"].text


def test_every_script_can_be_loaded_again() -> None:
    """The commands for a Redis that has forgotten the scripts load all of them."""
    packed = b"".join(packed_scripts(False))
    assert packed.count(b"SCRIPT") == len(load_scripts())
    assert all(script.text.encode() in packed for script in load_scripts().values())
