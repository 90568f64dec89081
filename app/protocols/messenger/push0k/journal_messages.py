"""Messages of push0k as rows of the messenger, within a transaction: in their order, each once."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import and_, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now_ms
from app.protocols.messenger.journal_clock import take
from app.protocols.messenger.journal_message_tables import chat_messages
from app.protocols.messenger.journal_tables import chat_devices, chat_files
from app.protocols.messenger.push0k.journal_map import PART, chat_imports, ids_of, note_ids
from app.protocols.messenger.push0k.outcome import ImportOutcome
from app.protocols.messenger.push0k.source_rows import FAULT, LINK, TEXT, PushMessage
from app.protocols.messenger.push0k.texts import PlainText, fault_text, link_text, plain_text
from app.protocols.messenger.talk.journal_messages import places_of_message
from app.protocols.messenger.talk.journal_search import IndexedText, index_words
from app.protocols.messenger.talk.rules import ChatTarget
from app.protocols.messenger.talk.settings import MAX_TEXT_CHARACTERS

_MESSAGE, _FILE = chat_messages.c, chat_files.c


class HereMessage(Struct):
    """A message that is here, as others refer to it. Lives as long as its part."""

    id: int
    sender: int
    conversation: str
    file: str | None
    file_info: str | None


class _NewMessage(Struct, frozen=True):
    """A message that is not here yet."""

    source: PushMessage
    key: str
    sender: int
    target: ChatTarget
    text: PlainText


class _Surroundings(Struct, frozen=True):
    """The rows that the messages of a part refer to."""

    users: Mapping[str, int]
    rooms: Mapping[str, int]
    apps: Mapping[str, int]
    devices: Mapping[tuple[int, str], int]
    #: The messages that are here, by their ids in push0k.
    here: dict[str, HereMessage]
    #: The files that are here, by the ids of their messages in push0k: id and what messages show.
    files: Mapping[str, tuple[str, str]]


async def add_messages(
    sql: AsyncConnection, site_id: int, part: Sequence[PushMessage], file_ids: Mapping[str, str]
) -> ImportOutcome:
    """Makes the messages that are not here. `file_ids` are the ids that files of this part have here if they are."""
    outcome = ImportOutcome()
    texts = {id(one): _text_of(one) for one in part}
    around = await _surroundings(sql, site_id, part, texts, file_ids)
    new: dict[str, _NewMessage] = {}
    for one in part:
        sender = around.users.get(one.sender)
        target = _target(one, around)
        if sender is None or target is None:
            what = "sender" if sender is None else "addressee"
            outcome.note("messages_left_out", f"message {one.id}: left out, its {what} is unknown")
            continue
        earlier = around.here.get(one.id) or new.get(one.id)
        # push0k lets two users give two messages one id.
        key = one.id if earlier is None or earlier.sender == sender else f"{one.id}:{one.sender}"
        if key in around.here or key in new:
            outcome.counts["messages_there"] += 1
            await _complete(sql, site_id, one, around, outcome)
        else:
            new[key] = _NewMessage(one, key, sender, target, texts[id(one)])
    if new:
        await _insert(sql, site_id, list(new.values()), around, outcome)
    return outcome


def _text_of(message: PushMessage) -> PlainText:
    if message.has_file:
        return PlainText(message.text)
    if message.kind == TEXT:
        return plain_text(message.text)
    if message.kind == LINK:
        return PlainText(link_text(message.text))
    return PlainText(fault_text(message.text) if message.kind == FAULT else message.text)


def _target(message: PushMessage, around: _Surroundings) -> ChatTarget | None:
    if message.room is not None:
        room = around.rooms.get(message.room)
        return None if room is None else ChatTarget(room=room)
    user = around.users.get(message.to_user or "")
    return None if user is None else ChatTarget(user=user)


async def _surroundings(
    sql: AsyncConnection,
    site_id: int,
    part: Sequence[PushMessage],
    texts: Mapping[int, PlainText],
    file_ids: Mapping[str, str],
) -> _Surroundings:
    users = await ids_of(sql, site_id, "user", [one for m in part for one in (m.sender, m.to_user) if one])
    named = [one for m in part for one in (m.id, f"{m.id}:{m.sender}", m.parent, *texts[id(m)].quoted) if one]
    return _Surroundings(
        users,
        await ids_of(sql, site_id, "room", [m.room for m in part if m.room]),
        await ids_of(sql, site_id, "app", [m.app for m in part if m.app]),
        await devices_of(sql, site_id, {(users[m.sender], m.device) for m in part if m.device and m.sender in users}),
        await here_messages(sql, site_id, named),
        await _files(sql, site_id, file_ids),
    )


async def here_messages(sql: AsyncConnection, site_id: int, foreign: Sequence[str]) -> dict[str, HereMessage]:
    """The messages that were imported, by their ids in push0k."""
    found: dict[str, HereMessage] = {}
    wanted, map_ = sorted(set(foreign)), chat_imports.c
    columns = (_MESSAGE.id, _MESSAGE.from_user_id, _MESSAGE.conversation, _MESSAGE.file, _MESSAGE.file_info)
    joined = chat_imports.join(chat_messages, and_(_MESSAGE.site_id == map_.site_id, _MESSAGE.id == map_.id))
    of_site = (map_.site_id == site_id, map_.kind == "message")
    for start in range(0, len(wanted), PART):
        statement = select(map_.foreign_id, *columns).select_from(joined).where(*of_site)
        for row in await sql.execute(statement.where(map_.foreign_id.in_(wanted[start : start + PART]))):
            found[row.foreign_id] = HereMessage(row.id, row.from_user_id, row.conversation, row.file, row.file_info)
    return found


async def devices_of(sql: AsyncConnection, site_id: int, pairs: set[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """The rows of devices, by their users and deviceIds."""
    devices = chat_devices.c
    found: dict[tuple[int, str], int] = {}
    wanted = sorted(pairs)
    for start in range(0, len(wanted), PART // 2):
        of_pairs = tuple_(devices.user_id, devices.device).in_(wanted[start : start + PART // 2])
        statement = select(devices.id, devices.user_id, devices.device).where(devices.site_id == site_id, of_pairs)
        found |= {(row.user_id, row.device): row.id for row in await sql.execute(statement)}
    return found


async def _files(sql: AsyncConnection, site_id: int, file_ids: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    messages = {file: message for message, file in file_ids.items()}
    found: dict[str, tuple[str, str]] = {}
    wanted = sorted(messages)
    for start in range(0, len(wanted), PART):
        is_whole = (_FILE.site_id == site_id, _FILE.finished_at.is_not(None), _FILE.removed_at.is_(None))
        of_part = _FILE.id.in_(wanted[start : start + PART])
        for row in await sql.execute(select(_FILE.id, _FILE.name, _FILE.type, _FILE.size).where(*is_whole, of_part)):
            shown = {"id": row.id, "name": row.name, "type": row.type, "size": row.size}
            found[messages[row.id]] = (row.id, msgspec.json.encode(shown).decode())
    return found


async def _insert(
    sql: AsyncConnection, site_id: int, new: Sequence[_NewMessage], around: _Surroundings, outcome: ImportOutcome
) -> None:
    last = await take(sql, site_id, len(new))
    rows = []
    for number, one in enumerate(new, last - len(new) + 1):
        row = _row(one, number, around, outcome)
        around.here[one.key] = HereMessage(number, one.sender, row["conversation"], row["file"], row["file_info"])
        rows.append({"site_id": site_id, **row})
    await sql.execute(insert(chat_messages), rows)
    of_part = (_MESSAGE.site_id == site_id, _MESSAGE.id > last - len(new), _MESSAGE.id <= last)
    keys = {row.id: row.key for row in await sql.execute(select(_MESSAGE.id, _MESSAGE.key).where(*of_part))}
    texts = [
        IndexedText(
            keys[row["id"]],
            row["text"],
            places_of_message(site_id, one.sender, one.target, one.source.is_withheld),
        )
        for one, row in zip(new, rows, strict=True)
    ]
    await index_words(sql, texts, are_new=True)
    await note_ids(sql, site_id, "message", {one.key: row["id"] for one, row in zip(new, rows, strict=True)})
    outcome.counts["messages"] += len(new)


def _row(one: _NewMessage, number: int, around: _Surroundings, outcome: ImportOutcome) -> dict[str, Any]:
    source, conversation = one.source, one.target.conversation(one.sender)
    file, info = _file_of(source, around)
    if source.has_file and file is None:
        outcome.counts["messages_without_their_file"] += 1
    parent = around.here.get(source.parent or "")
    return {
        "id": number,
        "client_id": source.id,
        "from_user_id": one.sender,
        "to_user_id": one.target.user,
        "room_id": one.target.room,
        "conversation": conversation,
        "kind": _kind(source),
        "text": _bounded(one, around, outcome),
        "data": _data(source),
        "reply_to": _replied(one, conversation, around),
        "forward_of": None if parent is None else parent.id,
        "file": file,
        "file_info": info,
        "at": source.at,
        "device_id": around.devices.get((one.sender, source.device or "")),
        "app_id": around.apps.get(source.app or ""),
        "digest": sha256(f"push0k:{one.key}".encode()).digest(),
        "change": number,
        "is_withheld": source.is_withheld,
    }


def _kind(source: PushMessage) -> str:
    if source.has_file:
        return "file"
    return {TEXT: "text", LINK: "link", FAULT: "text"}.get(source.kind, f"push0k-{source.kind}")


def _data(source: PushMessage) -> str | None:
    formats = {"format": "simple"} if source.kind == TEXT and not source.has_file else {}
    extra = {"push0k": source.extra} if source.extra else {}
    return msgspec.json.encode({**formats, **extra}).decode() if formats or extra else None


def _bounded(one: _NewMessage, around: _Surroundings, outcome: ImportOutcome) -> str:
    text = one.text.with_ids({name: here.id for name in one.text.quoted if (here := around.here.get(name))})
    if len(text) > MAX_TEXT_CHARACTERS:
        outcome.note("texts_cut", f"message {one.source.id}: its text is cut at {MAX_TEXT_CHARACTERS} characters")
    return text[:MAX_TEXT_CHARACTERS]


def _replied(one: _NewMessage, conversation: str, around: _Surroundings) -> int | None:
    """The message of the same conversation that this one quotes first."""
    quoted = (around.here.get(name) for name in one.text.quoted)
    return next((here.id for here in quoted if here is not None and here.conversation == conversation), None)


def _file_of(source: PushMessage, around: _Surroundings) -> tuple[str | None, str | None]:
    """The file of a message; a forward has that of the message before it."""
    if not source.has_file:
        return None, None
    parent = around.here.get(source.parent or "")
    return (parent.file, parent.file_info) if parent is not None else around.files.get(source.id, (None, None))


async def _complete(
    sql: AsyncConnection, site_id: int, source: PushMessage, around: _Surroundings, outcome: ImportOutcome
) -> None:
    """Gives a message of an earlier run the file that was missing then."""
    here = around.here.get(source.id)
    file, info = _file_of(source, around)
    if here is None or here.file is not None or file is None:
        return
    values = {"file": file, "file_info": info, "change": await take(sql, site_id), "changed_at": now_ms()}
    of_message = (_MESSAGE.site_id == site_id, _MESSAGE.id == here.id, _MESSAGE.is_deleted.is_(False))
    await sql.execute(update(chat_messages).where(*of_message).values(**values))
    here.file, here.file_info = file, info
    outcome.counts["messages_completed"] += 1
