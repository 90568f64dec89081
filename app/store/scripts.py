"""The Lua scripts in `lua/` as Redis gets them: by name, with what stands before them."""

import hashlib
from functools import cache
from importlib.resources import files

import hiredis
from msgspec import Struct

_OF_NO_SITE = ("beat", "lease", "publish_beat", "silence")
#: Put before a site's scripts: whether nodes hear of its messages on a channel of the site's shard; see `tell`.
_IS_SHARDED = "local IS_SHARDED = true\n"
_IS_NOT_SHARDED = "local IS_SHARDED = false\n"
_MAILBOX = "mailbox_"


class Script(Struct, frozen=True):
    """A Lua script: its name, its text, and the digest by which Redis knows it."""

    name: str
    text: str
    digest: str


@cache
def load_scripts(is_sharded: bool = False) -> dict[str, Script]:
    """The scripts in `lua/` by name; those of a site have `_shared.lua` in front, of mailboxes `_mailbox.lua`."""
    folder = files("app.store") / "lua"
    shared = (_IS_SHARDED if is_sharded else _IS_NOT_SHARDED) + (folder / "_shared.lua").read_text()
    mailbox = (folder / "_mailbox.lua").read_text()
    scripts = {}
    for file in folder.iterdir():
        name = file.name.removesuffix(".lua")
        if not name.startswith("_"):
            front = "" if name in _OF_NO_SITE else mailbox if name.startswith(_MAILBOX) else shared
            text = front + file.read_text()
            scripts[name] = Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
    return scripts


@cache
def packed_scripts(is_sharded: bool) -> tuple[bytes, ...]:
    """The commands that make Redis know them all, for `Link.reload`."""
    words = (("SCRIPT", "LOAD", script.text) for script in load_scripts(is_sharded).values())
    return tuple(hiredis.pack_command(command) for command in words)  # type: ignore[arg-type]  # typed for one word
