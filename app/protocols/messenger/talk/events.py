"""The events of conversations: what each reads, and its answer. Every commit wakes the relay."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import UNSET, Meta, UnsetType, field
from sqlalchemy import select

from app.clock import now_ms
from app.config.settings import Site
from app.core.address import MAX_ROOM_BYTES
from app.protocols.messenger.answers import ChatEvent, ChatRefusal
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.handlers import Handler
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_members
from app.protocols.messenger.settings import Messenger, is_beside
from app.protocols.messenger.talk.acceptance import Acceptance
from app.protocols.messenger.talk.journal_attachments import attach
from app.protocols.messenger.talk.journal_changes import Change, change
from app.protocols.messenger.talk.journal_history import Listed, check_conversation, history, search
from app.protocols.messenger.talk.journal_messages import MessageDesk, Post, check_user
from app.protocols.messenger.talk.journal_receipts import note_read
from app.protocols.messenger.talk.journal_visible import blocked_by, has_blocked
from app.protocols.messenger.talk.ports import WakeRelay
from app.protocols.messenger.talk.rules import ChatTarget
from app.protocols.messenger.talk.settings import (
    MAX_CLIENT_ID_CHARACTERS,
    MAX_DATA_BYTES,
    MAX_FILE_CHARACTERS,
    MAX_KIND_CHARACTERS,
    MAX_LISTED,
    MAX_RECEIPT_IDS,
    MAX_SEARCH_CHARACTERS,
    MAX_TEXT_CHARACTERS,
)
from app.protocols.messenger.talk.wishes import ChatSender, MessageWish, TalkBounds

#: An id of a row: JavaScript knows it exactly.
RowId = Annotated[int, Meta(ge=1, le=2**53)]
Limit = Annotated[int, Meta(ge=1, le=MAX_LISTED)]


class Announcer(Protocol):
    """Tells connected users of something that is kept nowhere. Best effort."""

    async def tell(self, site: Site, users: Sequence[int], event: str, data: Any) -> None:
        """Sends an event to every connection of these users, on any node."""


class TargetData(ChatEvent):
    """`to` and `with`: one user, or one room."""

    user: RowId | None = None
    room: RowId | None = None

    @property
    def target(self) -> ChatTarget:
        """The conversation. Raises ChatRefusal."""
        if (self.user is None) == (self.room is None):
            raise ChatRefusal("bad_request", "Expected either a user or a room.")
        return ChatTarget(self.user, self.room)


class MessageData(ChatEvent):
    """`message`"""

    id: Annotated[str, Meta(min_length=1, max_length=MAX_CLIENT_ID_CHARACTERS)]
    to: TargetData
    kind: Annotated[str, Meta(min_length=1, max_length=MAX_KIND_CHARACTERS)] = "text"
    text: Annotated[str, Meta(max_length=MAX_TEXT_CHARACTERS)] = ""
    data: Any = None
    reply_to: RowId | None = None
    forward_of: RowId | None = None
    file: Annotated[str, Meta(min_length=1, max_length=MAX_FILE_CHARACTERS)] | None = None
    #: Nobody speaks for another user.
    sender: int | None = field(name="from", default=None)


class EditData(ChatEvent):
    """`edit`"""

    id: RowId
    text: Annotated[str, Meta(max_length=MAX_TEXT_CHARACTERS)] | None = None
    data: Any | UnsetType = UNSET


class DeleteData(ChatEvent):
    """`delete`"""

    id: RowId


class ReceiptsData(ChatEvent):
    """`receipts`"""

    ids: Annotated[list[RowId], Meta(max_length=MAX_RECEIPT_IDS)]
    state: Literal["read"]


class HistoryData(ChatEvent):
    """`history`"""

    of: TargetData = field(name="with")
    before: RowId | None = None
    limit: Limit = 50


class SearchData(ChatEvent):
    """`search`"""

    text: Annotated[str, Meta(max_length=MAX_SEARCH_CHARACTERS)]
    of: TargetData | None = field(name="with", default=None)
    limit: Limit = 50


class TypingData(ChatEvent):
    """`typing`"""

    to: TargetData


class TalkEvents:
    """The events of conversations of all sites. Holds no state; lives as long as the node."""

    def __init__(self, sql: ChatSql, wake: WakeRelay, announcer: Announcer, max_bytes: int) -> None:
        """`max_bytes` bounds a message to clients."""
        self._sql = sql
        self._wake = wake
        self._announcer = announcer
        self._max_bytes = max_bytes
        self._acceptance = Acceptance(sql, wake, lambda site: MessageDesk(self._bounds_of(site), attach))

    async def close(self) -> None:
        """Ends what is under way."""
        await self._acceptance.close()

    def handlers(self) -> dict[str, Handler]:
        """The events by name."""
        return {
            "message": Handler(MessageData, self.message, is_grouped=True),
            "edit": Handler(EditData, self.edit),
            "delete": Handler(DeleteData, self.delete),
            "receipts": Handler(ReceiptsData, self.receipts),
            "history": Handler(HistoryData, self.history),
            "search": Handler(SearchData, self.search),
            "typing": Handler(TypingData, self.typing),
        }

    async def message(self, caller: ChatCaller, data: MessageData) -> Mapping[str, Any]:
        """Accepts a message."""
        if data.sender is not None and data.sender != caller.me.id:
            raise ChatRefusal("impersonation", "Nobody speaks for another user.")
        named = (data.reply_to, data.forward_of, data.file)
        wish = MessageWish(data.id, data.to.target, data.kind, data.text, _packed(data.data), *named)
        accepted = await self._acceptance.accept(caller.site, Post(sender_of(caller), wish))
        return {"id": accepted.id, "at": accepted.at}

    async def edit(self, caller: ChatCaller, data: EditData) -> Mapping[str, Any]:
        """Changes a message."""
        has_data = data.data is not UNSET
        if data.text is None and not has_data:
            raise ChatRefusal("bad_request", "Expected a text, or data.")
        packed = _packed(data.data) if has_data else None
        return await self._change(caller, Change(data.id, False, data.text, packed, has_data))

    async def delete(self, caller: ChatCaller, data: DeleteData) -> Mapping[str, Any]:
        """Deletes a message."""
        return await self._change(caller, Change(data.id, True))

    async def receipts(self, caller: ChatCaller, data: ReceiptsData) -> None:
        """Notes messages as read."""
        async with self._sql.writing(caller.site) as (sql, site_id):
            noted = await note_read(sql, site_id, sender_of(caller), list(dict.fromkeys(data.ids)), now_ms())
        if noted:
            self._wake(caller.site)

    async def history(self, caller: ChatCaller, data: HistoryData) -> Mapping[str, Any]:
        """Reads a conversation."""
        async with self._sql.reading(caller.site) as (sql, site_id):
            found = await history(sql, site_id, caller.me.id, data.of.target, data.before, data.limit)
        return _listed(found)

    async def search(self, caller: ChatCaller, data: SearchData) -> Mapping[str, Any]:
        """Finds words."""
        target = data.of.target if data.of is not None else None
        async with self._sql.reading(caller.site) as (sql, site_id):
            found = await search(sql, site_id, caller.me.id, data.text, target, data.limit)
        return _listed(found)

    async def typing(self, caller: ChatCaller, data: TypingData) -> None:
        """Tells the others that the user is typing."""
        target, me = data.to.target, caller.me.id
        async with self._sql.reading(caller.site) as (sql, site_id):
            await check_conversation(sql, site_id, me, target)
            if target.user is not None:
                await check_user(sql, site_id, me, target.user, self._bounds_of(caller.site))
                users = {target.user} if not await has_blocked(sql, site_id, target.user, me) else set()
            else:
                members = chat_members.c
                of_room = (members.site_id == site_id, members.room_id == target.room, members.until.is_(None))
                users = set((await sql.execute(select(members.user_id).where(*of_room))).scalars())
            users -= {me} | await blocked_by(sql, site_id, me)
        if users:
            await self._announcer.tell(caller.site, sorted(users), "typing", {"user": me, "to": target.shown})

    async def _change(self, caller: ChatCaller, wish: Change) -> Mapping[str, Any]:
        bounds = self._bounds_of(caller.site)
        async with self._sql.writing(caller.site) as (sql, site_id):
            changed = await change(sql, site_id, sender_of(caller), wish, now_ms(), bounds)
        self._wake(caller.site)
        return {"id": changed.id, "at": changed.at}

    def _bounds_of(self, site: Site) -> TalkBounds:
        settings = site.section(Messenger)
        most = min(site.limits.message_bytes or self._max_bytes, self._max_bytes)
        if is_beside(site):
            # The ids of its sender and its addressee become texts.
            most = max(most // 2, most - 2 * MAX_ROOM_BYTES)
        return TalkBounds(most, settings is not None and settings.contact_list == "rooms")


def sender_of(caller: ChatCaller) -> ChatSender:
    """The user of a connection, and its device."""
    app = caller.app.name if caller.app is not None else None
    return ChatSender(caller.me.id, caller.device, caller.device_id, caller.app_id, app)


def _packed(data: Any) -> str | None:
    """Data of the application as JSON. Raises ChatRefusal."""
    if data is None:
        return None
    packed = msgspec.json.encode(data)
    if len(packed) > MAX_DATA_BYTES:
        raise ChatRefusal("too_long", f"data: expected at most {MAX_DATA_BYTES} bytes as JSON, got {len(packed)}.")
    return packed.decode()


def _listed(found: Listed) -> dict[str, Any]:
    return {"messages": found.messages, "more": found.more}
