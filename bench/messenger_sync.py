"""The synchronisation of a messenger's client: all messages of a room, in parts, from nothing.

`python -m bench.messenger_sync [messages]` fills SQLite and PostgreSQL by the code that accepts messages, starts a
server on each, and has one user of the room log in and ask for parts of 256 KB until there are no more.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.canary.wire import OwnPort
from app.clock import now_ms
from app.config.settings import Site
from app.load.chat_device import ChatDevice, ChatHearer, ChatUserLogin
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.talk.journal_attachments import attach
from app.protocols.messenger.talk.journal_messages import MessageDesk, Post, accept_all
from app.protocols.messenger.talk.journal_outbox import finish
from app.protocols.messenger.talk.rules import ChatTarget
from app.protocols.messenger.talk.wishes import ChatSender, MessageWish, TalkBounds
from app.watched_tasks import start_logged
from bench.messenger_node import ROOM, SITE, ChatNode, make_room, running_database, serving
from tests.support.chat import password_of
from tests.support.store import running_valkey

_MESSAGES = 100_000
_AT_ONCE = 250
#: The bytes of a part; the frame around it stays below the bound of the client.
_PART_BYTES = 262_000
_TEXT = "the quick brown fox jumps over the lazy dog, message {}"


@dataclass(frozen=True)
class Synchronised:
    """The outcome of one synchronisation."""

    messages: int
    parts: int
    largest_bytes: int
    seconds: float


def main(arguments: argparse.Namespace) -> None:
    """Measure each database, and print the rows of the table."""
    print("| database | messages | seconds | parts | largest part, bytes | server CPU s | database CPU s | server MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="recado-sync-") as scratch:
        for kind in arguments.databases:
            folder = Path(scratch) / kind
            folder.mkdir()
            with running_valkey() as valkey, running_database(kind, folder) as (url, pids):
                logins = make_room(url, 2)
                asyncio.run(fill(url, arguments.messages))
                with serving(folder, valkey, url) as node, node.spending({"sql": pids}) as spent:
                    found = asyncio.run(synchronise(node, logins[1]))
                cells = [kind, f"{found.messages:,}", f"{found.seconds:.1f}", found.parts, f"{found.largest_bytes:,}"]
                cells += [f"{spent['server']:.1f}", f"{spent['sql']:.1f}", f"{spent['server_mb']:.0f}"]
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)


async def fill(url: str, messages: int) -> None:
    """Messages of the first user to the room, which the core has."""
    sql = ChatSql.open(url)
    desk = MessageDesk(TalkBounds(1_000_000), attach)
    sender, to = ChatSender(1, "filled", 0), ChatTarget(room=ROOM)
    try:
        for start in range(0, messages, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, messages))
            posts = [Post(sender, MessageWish(f"m{number}", to, "text", _TEXT.format(number))) for number in numbers]
            async with sql.writing(Site(name=SITE, api_key="k")) as (connection, site_id):
                outcomes = await accept_all(connection, site_id, posts, now_ms(), desk)
                await finish(connection, site_id, max(one.id for one in outcomes if not isinstance(one, Exception)), [])
    finally:
        await sql.close()


async def synchronise(node: ChatNode, login: str) -> Synchronised:
    """One user logs in and asks for everything."""
    device = await ChatDevice.connect(OwnPort("127.0.0.1", node.port), SITE, "measured")
    reader = start_logged(device.run(ChatHearer(lambda number: None, lambda count: None)), "device")
    try:
        await device.log_in(ChatUserLogin(login, password_of(login)))
        began = time.monotonic()
        seen: set[int] = set()
        parts = largest = 0
        part: dict[str, Any] = {"cursor": None, "more": True}
        while part["more"]:
            part = await device.ask("sync", {"cursor": part["cursor"], "bytes": _PART_BYTES})
            seen.update(one["id"] for one in part["messages"])
            parts, largest = parts + 1, max(largest, device.answer_bytes)
        return Synchronised(len(seen), parts, largest, time.monotonic() - began)
    finally:
        reader.cancel()
        device.close()


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.messenger_sync")
    parser.add_argument("messages", type=int, nargs="?", default=_MESSAGES)
    parser.add_argument("--databases", type=lambda text: text.split(","), default=["sqlite", "postgresql"])
    return parser.parse_args(words)


if __name__ == "__main__":
    main(parse())
