"""Accepting messages: what is stored, and the row of the outbox in the same transaction. Messages of load tests are
accepted by the same steps, into tables of their own."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct
from sqlalchemy import Table, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.addresses import run_room, shared_room, user_room
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.directory.journal_viewers import seen_among
from app.protocols.messenger.journal_clock import take
from app.protocols.messenger.journal_message_tables import LOAD, REAL
from app.protocols.messenger.talk.journal_load_runs import LOAD_KIND, LoadGate
from app.protocols.messenger.talk.journal_outbox import put
from app.protocols.messenger.talk.journal_search import IndexedText, index_words, places_of
from app.protocols.messenger.talk.journal_visible import has_blocked, room_facts, visible_row, visible_to
from app.protocols.messenger.talk.rules import (
    ChatTarget,
    addressees,
    check_writing,
)
from app.protocols.messenger.talk.shapes import SeenMessage, event_body, shown
from app.protocols.messenger.talk.wishes import AcceptedMessage, ChatSender, MessageWish, TalkBounds

_MESSAGE = REAL.messages.c

#: Makes a file part of a message of a site, a user and a time: its id, name, type and size as JSON. Raises ChatRefusal.
TakeFile = Callable[[AsyncConnection, int, int, str, int], Awaitable[str]]


class MessageDesk(Struct, frozen=True):
    """The needs of the acceptance of a message beside SQL."""

    bounds: TalkBounds
    take_file: TakeFile


class Post(Struct, frozen=True):
    """A message that waits to be accepted."""

    sender: ChatSender
    wish: MessageWish

    @property
    def client_key(self) -> tuple[int, str]:
        """Two messages with the same one are the same."""
        return self.sender.user, self.wish.client_id


class _Checked(Struct, frozen=True):
    """A message that its sender may write."""

    post: Post
    is_withheld: bool
    #: The run of a load test; None: it is a real message.
    run: str | None


class _Numbered(Struct, frozen=True):
    """A message with its place in the order of acceptance."""

    checked: _Checked
    id: int
    file_info: str | None
    #: The event as clients get it.
    body: str


_Outcome: TypeAlias = AcceptedMessage | ChatRefusal


async def accept(
    sql: AsyncConnection, site_id: int, sender: ChatSender, wish: MessageWish, now: int, desk: MessageDesk
) -> AcceptedMessage:
    """Stores a message, or answers that of the same request before. Raises ChatRefusal."""
    [outcome] = await accept_all(sql, site_id, [Post(sender, wish)], now, desk)
    if isinstance(outcome, ChatRefusal):
        raise outcome
    return outcome


async def accept_all(
    sql: AsyncConnection, site_id: int, posts: Sequence[Post], now: int, desk: MessageDesk
) -> list[_Outcome]:
    """Stores messages in their order, or answers those of the same requests before. Each has an outcome of its own: one
    that is refused leaves nothing behind but a gap among the numbers."""
    are_load = [one.wish.kind == LOAD_KIND for one in posts]
    outcomes: dict[bool, Iterator[_Outcome]] = {}
    for is_load in sorted(set(are_load)):
        part = [one for one, is_one in zip(posts, are_load, strict=True) if is_one == is_load]
        gate = await LoadGate.open(sql, site_id, [one.wish.data for one in part], now) if is_load else None
        outcomes[is_load] = iter(await _accept_into(sql, site_id, gate, part, now, desk))
        if gate is not None:
            await gate.close(sql, site_id, now)
    return [next(outcomes[is_load]) for is_load in are_load]


async def _accept_into(
    sql: AsyncConnection, site_id: int, gate: LoadGate | None, posts: Sequence[Post], now: int, desk: MessageDesk
) -> list[_Outcome]:
    """Accepts real messages, or with a gate those of load tests."""
    messages = (REAL if gate is None else LOAD).messages
    outcomes: dict[tuple[int, str], _Outcome] = {}
    known = await _earlier(sql, site_id, messages, posts, outcomes)
    checking = _Checking(sql, site_id, desk.bounds, gate, outcomes)
    checked = await checking.check_all([one for one in posts if one.client_key not in known])
    numbered = await _number_all(sql, site_id, checked, now, desk, outcomes)
    await _store_all(sql, site_id, messages, numbered, now)
    for one in numbered:
        key = one.checked.post.client_key
        known[key] = one.checked.post.wish.digest
        outcomes[key] = AcceptedMessage(one.id, now)
    return [_outcome_of(post, known, outcomes) for post in posts]


async def _earlier(
    sql: AsyncConnection,
    site_id: int,
    messages: Table,
    posts: Sequence[Post],
    outcomes: dict[tuple[int, str], _Outcome],
) -> dict[tuple[int, str], bytes]:
    """The digests of those messages that are stored already; their outcomes are noted."""
    of_clients = (
        messages.c.site_id == site_id,
        messages.c.from_user_id.in_({one.sender.user for one in posts}),
        messages.c.client_id.in_({one.wish.client_id for one in posts}),
    )
    columns = [messages.c[name] for name in ("from_user_id", "client_id", "id", "at", "digest")]
    found = {}
    for row in await sql.execute(select(*columns).where(*of_clients)):
        key = (row.from_user_id, row.client_id)
        found[key] = bytes(row.digest)
        outcomes[key] = AcceptedMessage(row.id, row.at)
    return found


class _Checking:
    """The checks of messages of one transaction. Lives as long as it."""

    def __init__(
        self,
        sql: AsyncConnection,
        site_id: int,
        bounds: TalkBounds,
        gate: LoadGate | None,
        outcomes: dict[tuple[int, str], _Outcome],
    ) -> None:
        self._place = (sql, site_id)
        self._bounds = bounds
        self._gate = gate
        self._outcomes = outcomes
        #: The answer for a sender and a target is the same until the transaction commits.
        self._targets: dict[tuple[int, ChatTarget], bool] = {}

    async def check_all(self, posts: Sequence[Post]) -> list[_Checked]:
        """The messages that may be written, each once; the refusals of the others are noted."""
        checked: dict[tuple[int, str], _Checked] = {}
        for post in posts:
            if post.client_key in checked or post.client_key in self._outcomes:
                continue
            try:
                checked[post.client_key] = await self._check(post)
            except ChatRefusal as refusal:
                self._outcomes[post.client_key] = refusal
        return list(checked.values())

    async def _check(self, post: Post) -> _Checked:
        me, to = post.sender.user, post.wish.to
        if (me, to) not in self._targets:
            self._targets[me, to] = await _check_target(*self._place, me, to, self._bounds)
        await _check_named(*self._place, me, post.wish)
        return _Checked(post, self._targets[me, to], self._run_of(post.wish))

    def _run_of(self, wish: MessageWish) -> str | None:
        if self._gate is None:
            return None
        if (wish.reply_to, wish.forward_of, wish.file) != (None, None, None):
            raise ChatRefusal("bad_request", "A message of a load test has no file and names no other message.")
        return self._gate.admit(wish.data, wish.to.room)


async def _number_all(
    sql: AsyncConnection,
    site_id: int,
    checked: Sequence[_Checked],
    now: int,
    desk: MessageDesk,
    outcomes: dict[tuple[int, str], _Outcome],
) -> list[_Numbered]:
    """Gives the messages their numbers, and takes their files; the refusals are noted."""
    if not checked:
        return []
    first = await take(sql, site_id, len(checked)) - len(checked) + 1
    numbered = []
    for number, one in enumerate(checked, first):
        try:
            if one.post.wish.file is None:
                numbered.append(_numbered(one, number, None, now, desk.bounds))
            else:
                numbered.append(await _with_file(sql, site_id, one, number, now, desk))
        except ChatRefusal as refusal:
            outcomes[one.post.client_key] = refusal
    return numbered


async def _with_file(
    sql: AsyncConnection, site_id: int, checked: _Checked, number: int, now: int, desk: MessageDesk
) -> _Numbered:
    sender, file = checked.post.sender, checked.post.wish.file
    assert file is not None, "the caller asks for a file"
    # A message that is refused has taken no file.
    async with sql.begin_nested():
        file_info = await desk.take_file(sql, site_id, sender.user, file, now)
        return _numbered(checked, number, file_info, now, desk.bounds)


def _numbered(checked: _Checked, number: int, file_info: str | None, now: int, bounds: TalkBounds) -> _Numbered:
    post = checked.post
    event = "message" if checked.run is None else "load_message"
    body = event_body(event, shown(_as_seen(number, post.sender, post.wish, file_info, now)))
    if len(body.encode()) > bounds.max_bytes:
        raise ChatRefusal("too_long", f"Expected a message of at most {bounds.max_bytes} bytes.")
    return _Numbered(checked, number, file_info, body)


async def _store_all(
    sql: AsyncConnection, site_id: int, messages: Table, numbered: Sequence[_Numbered], now: int
) -> None:
    """Writes the rows of messages, their words, and the rows of the outbox. No search finds messages of load tests."""
    if not numbered:
        return
    rows = [
        {
            "site_id": site_id,
            **_columns(one.id, one.checked.post.sender, one.checked.post.wish, now),
            "file_info": one.file_info,
            "is_withheld": one.checked.is_withheld,
            **({} if one.checked.run is None else {"run": one.checked.run}),
        }
        for one in numbered
    ]
    if messages is LOAD.messages:
        await sql.execute(insert(messages), rows)
    else:
        stored = await sql.execute(insert(messages).returning(_MESSAGE.id, _MESSAGE.key), rows)
        keys = {row.id: row.key for row in stored}
        await index_words(sql, [_indexed(site_id, one, keys[one.id]) for one in numbered], are_new=True)
    await put(sql, site_id, list(map(_outbox_row, numbered)))


def _indexed(site_id: int, one: _Numbered, key: int) -> IndexedText:
    sender, wish = one.checked.post.sender, one.checked.post.wish
    return IndexedText(key, wish.text, places_of_message(site_id, sender.user, wish.to, one.checked.is_withheld))


def _outbox_row(one: _Numbered) -> dict[str, Any]:
    sender, to = one.checked.post.sender, one.checked.post.wish.to
    users = addressees(to, sender.user, one.checked.is_withheld)
    if one.checked.run is not None:
        rooms = [run_room(one.checked.run)]
    else:
        rooms = [shared_room(to.room or 0)] if users is None else [user_room(user) for user in users]
    row = {"id": one.id, "rooms": msgspec.json.encode(rooms).decode(), "body": one.body, "message_id": one.id}
    return row | without(sender)


def _outcome_of(
    post: Post, known: Mapping[tuple[int, str], bytes], outcomes: Mapping[tuple[int, str], _Outcome]
) -> _Outcome:
    digest = known.get(post.client_key)
    if digest is not None and digest != post.wish.digest:
        return ChatRefusal("id_taken", "Another message has this id.")
    return outcomes[post.client_key]


def _columns(number: int, sender: ChatSender, wish: MessageWish, now: int) -> dict[str, Any]:
    return {
        "id": number,
        "client_id": wish.client_id,
        "from_user_id": sender.user,
        "to_user_id": wish.to.user,
        "room_id": wish.to.room,
        "conversation": wish.to.conversation(sender.user),
        "kind": wish.kind,
        "text": wish.text,
        "data": wish.data,
        "reply_to": wish.reply_to,
        "forward_of": wish.forward_of,
        "file": wish.file,
        "at": now,
        "device_id": sender.device_id,
        "app_id": sender.app_id,
        "digest": wish.digest,
        "change": number,
    }


def _as_seen(number: int, sender: ChatSender, wish: MessageWish, file_info: str | None, now: int) -> SeenMessage:
    return SeenMessage(
        id=number,
        sender=sender.user,
        to=wish.to.shown,
        kind=wish.kind,
        text=wish.text,
        data=wish.data,
        reply_to=wish.reply_to,
        forward_of=wish.forward_of,
        file=file_info,
        at=now,
        device=sender.device,
        app=sender.app,
        changed_at=None,
        is_deleted=False,
    )


async def _check_target(sql: AsyncConnection, site_id: int, me: int, to: ChatTarget, bounds: TalkBounds) -> bool:
    """Whether the message is withheld from its addressee. Raises ChatRefusal where it may not be written."""
    if to.user is None:
        check_writing(await room_facts(sql, site_id, to.room or 0, me))
        return False
    await check_user(sql, site_id, me, to.user, bounds)
    return await has_blocked(sql, site_id, to.user, me)


async def check_user(sql: AsyncConnection, site_id: int, me: int, other: int, bounds: TalkBounds) -> None:
    """Raises ChatRefusal for a user that is not there, or that this one may not know of: it does not see it, and has no
    conversation with it."""
    if await seen_among(sql, site_id, me, [other], by_rooms=bounds.is_by_rooms):
        return
    of_both = (_MESSAGE.site_id == site_id, _MESSAGE.conversation == ChatTarget(user=other).conversation(me))
    has_talked = select(_MESSAGE.id).where(*of_both, visible_to(me)).limit(1)
    if not bounds.is_by_rooms or (await sql.execute(has_talked)).first() is None:
        raise ChatRefusal("unknown_user", "No user has this id.")


async def _check_named(sql: AsyncConnection, site_id: int, me: int, wish: MessageWish) -> None:
    """Raises ChatRefusal where a reply or a forward names a message that the user does not see."""
    for name, id in (("reply_to", wish.reply_to), ("forward_of", wish.forward_of)):
        if id is None:
            continue
        row = await visible_row(sql, site_id, me, id)
        is_here = row is not None and (name == "forward_of" or row.conversation == wish.to.conversation(me))
        if not is_here:
            raise ChatRefusal("bad_request", f"{name}: expected a message of this conversation that one sees.")


def without(sender: ChatSender) -> dict[str, Any]:
    """The columns of a row of the outbox that leave the sending device out."""
    return {"but_user": user_room(sender.user), "but_device": sender.device}


def places_of_message(site_id: int, sender: int, to: ChatTarget, is_withheld: bool) -> list[str]:
    """The places where a message is found."""
    users = addressees(to, sender, is_withheld)
    return places_of(site_id, [], [to.room or 0]) if users is None else places_of(site_id, users, [])
