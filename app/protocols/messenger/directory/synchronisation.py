"""`sync` and `synced`: the reference data, then messages, by a cursor and in parts; and how long a client takes."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from app.clock import now_ms
from app.config.settings import Site
from app.observe.counts import Counts
from app.protocols.messenger.answers import ChatEvent
from app.protocols.messenger.bounds import MAX_CURSOR_CHARACTERS
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.chat_names import ChatNames
from app.protocols.messenger.directory.journal_reference import Reader, ReferencePart, read_reference
from app.protocols.messenger.directory.ports import OnlineStore
from app.protocols.messenger.directory.sync_place import SyncCursor, read_cursor
from app.protocols.messenger.handlers import Handler
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.settings import Messenger, is_beside
from app.protocols.messenger.talk.journal_sync import sync_part
from app.protocols.messenger.talk.settings import LEAST_SYNC_BYTES, MAX_SYNC_BYTES
from app.protocols.messenger.text_ids import SYNCHRONISED

#: The names, the cursor and the brackets of an answer.
_FRAME_BYTES = 400
_DAY_MS = 86_400_000


class SyncData(ChatEvent):
    """`sync`"""

    cursor: Annotated[str, Meta(max_length=MAX_CURSOR_CHARACTERS)] | None = None
    bytes: Annotated[int, Meta(ge=LEAST_SYNC_BYTES, le=MAX_SYNC_BYTES)] = 262_144


class SyncedData(ChatEvent):
    """`synced`"""

    ms: Annotated[float, Meta(ge=0, le=_DAY_MS)]


class Synchronisation:
    """The synchronisations of all clients of a node. Holds no state; lives as long as the node."""

    def __init__(self, sql: ChatSql, online: OnlineStore, names: ChatNames, node: str, counts: Counts) -> None:
        self._sql = sql
        self._names = names
        self._online = online
        self._node = node
        self._counts = counts

    def handlers(self) -> dict[str, Handler]:
        """The events by name."""
        return {"sync": Handler(SyncData, self.sync), "synced": Handler(SyncedData, self.synced)}

    async def sync(self, caller: ChatCaller, data: SyncData) -> Mapping[str, Any]:
        """The next part."""
        cursor = read_cursor(data.cursor)
        if cursor.is_new:
            caller.measure.begin(now_ms(), is_resumed=data.cursor is not None)
        online = frozenset() if cursor.in_messages else frozenset(await self._online.online(caller.site))
        answer, size = await self._answer(caller, cursor, online, data.bytes)
        if is_beside(caller.site):
            answer, size = await self._with_texts(caller, cursor, online, (data.bytes, answer))
        caller.measure.note(size, now_ms(), is_last=not answer["more"])
        return answer

    async def _with_texts(
        self, caller: ChatCaller, cursor: SyncCursor, online: frozenset[int], first: tuple[int, dict[str, Any]]
    ) -> tuple[dict[str, Any], int]:
        """The answer with texts for numbers. They may be longer: then less is read, until it is as short as was asked
        for."""
        most, answer = first
        answer = _unpacked(answer)
        budget = most
        while True:
            shown: dict[str, Any] = await self._names.shown(caller.site, SYNCHRONISED, answer)
            size = len(msgspec.json.encode(shown))
            if size <= most or budget <= _FRAME_BYTES:
                return shown, size
            budget = max(_FRAME_BYTES, budget * most // size - _FRAME_BYTES)
            answer = _unpacked((await self._answer(caller, cursor, online, budget))[0])

    async def _answer(
        self, caller: ChatCaller, cursor: SyncCursor, online: frozenset[int], most: int
    ) -> tuple[dict[str, Any], int]:
        """The part behind a cursor, of at most so many bytes, and its size."""
        part = ReferencePart(most - _FRAME_BYTES)
        messages: Sequence[Raw] = ()
        receipts: Sequence[Raw] = ()
        more = True
        async with self._sql.reading(caller.site) as (sql, site_id):
            place = cursor.reference
            if not cursor.in_messages:
                reader = Reader(sql, site_id, caller.me.id, _sees_by_rooms(caller.site), online)
                place = await read_reference(reader, place, part)
            talk = cursor.messages
            if place.is_between:
                found = await sync_part(sql, site_id, caller.me.id, talk, part.left, is_empty=part.is_empty)
                messages, receipts, talk, more = found.messages, found.receipts, found.cursor, found.more
        after = SyncCursor(place, place.is_between and more, talk)
        size = most - _FRAME_BYTES - part.left + sum(map(len, map(bytes, (*messages, *receipts))))
        lists = {**part.lists, "messages": messages, "receipts": receipts}
        return {**lists, "cursor": after.text, "more": more}, size

    async def synced(self, caller: ChatCaller, data: SyncedData) -> None:
        """The client has it all: the end of the measurement."""
        self.close(caller, round(data.ms))

    def close(self, caller: ChatCaller, client_ms: int | None = None) -> None:
        """Ends the measurement of a synchronisation, and leaves a row; again does nothing."""
        measured = caller.measure.end(now_ms() if client_ms is not None else None)
        if measured is None:
            return
        row = {
            "at": now_ms(),
            "user": caller.me.room,
            "device": caller.device,
            "node": self._node,
            "kind": "synchronisation",
            "bytes": measured.bytes,
            "ms": measured.ms,
            "is_resumed": measured.is_resumed,
            "app": caller.app.name if caller.app is not None else None,
            "client_ms": client_ms,
        }
        self._counts.records.add("transfers", caller.site.name, row)


def _unpacked(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer whose parts are values, not packed JSON."""
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(answer))
    return values


def _sees_by_rooms(site: Site) -> bool:
    return site.require_section(Messenger).contact_list == "rooms"
