"""Accepting messages: what is stored, and the row of the outbox in the same transaction."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.addresses import shared_room, user_room
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.directory.journal_viewers import seen_among
from app.protocols.messenger.journal_clock import take
from app.protocols.messenger.journal_tables import chat_messages
from app.protocols.messenger.talk.journal_outbox import put
from app.protocols.messenger.talk.journal_search import index_words, places_of
from app.protocols.messenger.talk.journal_visible import has_blocked, room_facts, visible_row, visible_to
from app.protocols.messenger.talk.rules import (
    ChatTarget,
    addressees,
    check_writing,
)
from app.protocols.messenger.talk.shapes import SeenMessage, event_body, shown
from app.protocols.messenger.talk.wishes import AcceptedMessage, ChatSender, MessageWish, TalkBounds

_MESSAGE = chat_messages.c

#: Makes a file part of a message of a site, a user and a time: its id, name, type and size as JSON. Raises ChatRefusal.
TakeFile = Callable[[AsyncConnection, int, int, str, int], Awaitable[str]]


class MessageDesk(Struct, frozen=True):
    """The needs of the acceptance of a message beside SQL."""

    bounds: TalkBounds
    take_file: TakeFile


async def accept(
    sql: AsyncConnection, site_id: int, sender: ChatSender, wish: MessageWish, now: int, desk: MessageDesk
) -> AcceptedMessage:
    """Stores a message, or answers that of the same request before. Raises ChatRefusal."""
    earlier = await _earlier(sql, site_id, sender.user, wish)
    if earlier is not None:
        return earlier
    is_withheld = await _check_target(sql, site_id, sender.user, wish.to, desk)
    await _check_named(sql, site_id, sender.user, wish)
    file_info = await desk.take_file(sql, site_id, sender.user, wish.file, now) if wish.file is not None else None
    number = await take(sql, site_id)
    body = event_body("message", shown(_as_seen(number, sender, wish, file_info, now)))
    if len(body.encode()) > desk.bounds.max_bytes:
        raise ChatRefusal("too_long", f"Expected a message of at most {desk.bounds.max_bytes} bytes.")
    columns = _columns(number, sender, wish, now) | {"file_info": file_info, "is_withheld": is_withheld}
    stored = insert(chat_messages).values(site_id=site_id, **columns).returning(_MESSAGE.key)
    key = (await sql.execute(stored)).scalar_one()
    places = places_of_message(site_id, sender.user, wish.to, is_withheld)
    await index_words(sql, key, wish.text, places, is_new=True)
    users = addressees(wish.to, sender.user, is_withheld)
    rooms = [shared_room(wish.to.room or 0)] if users is None else [user_room(user) for user in users]
    row = {"id": number, "rooms": msgspec.json.encode(rooms).decode(), "body": body, "message_id": number}
    await put(sql, site_id, [row | without(sender)])
    return AcceptedMessage(number, now)


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


async def _earlier(sql: AsyncConnection, site_id: int, user: int, wish: MessageWish) -> AcceptedMessage | None:
    of_client = (
        _MESSAGE.site_id == site_id,
        _MESSAGE.from_user_id == user,
        _MESSAGE.client_id == wish.client_id,
    )
    row = (await sql.execute(select(_MESSAGE.id, _MESSAGE.at, _MESSAGE.digest).where(*of_client))).one_or_none()
    if row is None:
        return None
    if bytes(row.digest) != wish.digest:
        raise ChatRefusal("id_taken", "Another message has this id.")
    return AcceptedMessage(row.id, row.at)


async def _check_target(sql: AsyncConnection, site_id: int, me: int, to: ChatTarget, desk: MessageDesk) -> bool:
    """Whether the message is withheld from its addressee. Raises ChatRefusal where it may not be written."""
    if to.user is None:
        check_writing(await room_facts(sql, site_id, to.room or 0, me))
        return False
    await check_user(sql, site_id, me, to.user, desk.bounds)
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
