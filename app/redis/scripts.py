"""The Lua scripts of all packages in the form that Redis gets, by name.

Each package keeps its scripts in a folder `lua/`. A line `-- include <name>` is replaced by the fragment `_<name>.lua`
of any package, once; fragments include others the same way. `-- include <name> here`, within a function, makes the
functions of the fragment when that function runs: every run of a script makes all others. No two packages have a script
of the same name. Lines between `-- if journal` and `-- end if` are left out where there is no journal.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

import hiredis
from msgspec import Struct

from app.config.settings import CANARY_SITE

#: The first key of the scripts of the hidden site, of which the journal hears nothing; see `app/store/keys.py`.
_HIDDEN_PREFIX = f"recado:{{{CANARY_SITE}}}:"
_INCLUDE = re.compile(r"^-- include (\w+)( here)?\n", re.MULTILINE)


#: The lines that a script has where there is a journal.
_OF_JOURNAL = re.compile(r"^ *-- if journal\n.*?^ *-- end if\n", re.MULTILINE | re.DOTALL)


class Script(Struct, frozen=True):
    """A Lua script: its name, its text, and the digest by which Redis knows it."""

    name: str
    text: str
    digest: str


@cache
def load_scripts(is_sharded: bool = False, journal_backlog: int = 0) -> dict[str, Script]:
    """All scripts by name. `is_sharded` chooses the form for a Cluster; `journal_backlog` is the number of entries that
    wait for the journal, 0 for none. Raises ValueError for a repeated name."""
    fragments = _fragments(is_sharded, journal_backlog)
    scripts: dict[str, Script] = {}
    for file in _files():
        name = file.stem
        if name.startswith("_"):
            continue
        if name in scripts:
            raise ValueError(f"{file}: expected a name that no other script has")
        text = _expand(file.read_text(), fragments, set())
        if not journal_backlog:
            text = _OF_JOURNAL.sub("", text)
        scripts[name] = Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
    return scripts


@cache
def packed_scripts(is_sharded: bool, journal_backlog: int = 0) -> tuple[bytes, ...]:
    """The commands that load every script, for `Link.reload`."""
    words = (("SCRIPT", "LOAD", script.text) for script in load_scripts(is_sharded, journal_backlog).values())
    return tuple(hiredis.pack_command(command) for command in words)  # type: ignore[arg-type]  # typed for one word


def _files() -> Iterator[Path]:
    yield from sorted(Path(str(files("app"))).rglob("lua/*.lua"))


def _fragments(is_sharded: bool, journal_backlog: int) -> dict[str, str]:
    """The texts that scripts can include, by name."""
    mode = f"local IS_SHARDED = {str(is_sharded).lower()}\nlocal JOURNAL_BACKLOG = {journal_backlog}\n"
    if journal_backlog:
        mode += f"local HIDDEN = '{_HIDDEN_PREFIX}'\n"
    return {"mode": mode} | {file.stem.removeprefix("_"): file.read_text() for file in _files() if file.stem[0] == "_"}


def _expand(text: str, fragments: dict[str, str], included: set[str]) -> str:
    """The text with each include line replaced by its fragment, in fragments too; a second line for one by nothing."""
    #: The fragments within a function, which the code outside of it does not see.
    within = set(included)

    def fragment_of(found: re.Match[str]) -> str:
        seen = within if found[2] else included
        if found[1] in included | seen:
            return ""
        seen.add(found[1])
        inner = _expand(fragments[found[1]], fragments, seen)
        return "".join(f"  {line}" for line in inner.splitlines(keepends=True)) if found[2] else inner

    return _INCLUDE.sub(fragment_of, text)
