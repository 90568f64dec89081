"""The messages and receipts of `sync`: everything that has changed behind a cursor, in parts of bounded size.

A round begins at a number of the clock, ends at the number of its begin, and looks at the conversations in groups; what
changes meanwhile is the next round's. The cursor says how far a round has come:

    <known>                                  between two rounds: everything up to `known` is known
    <known>.<until>.m.<behind>.<last>.<at>   messages of the rooms behind one up to another, behind the change `at`
    <known>.<until>.r.0.0.<at>               receipts, behind the change `at`

A room that the user has entered, or whose history was opened, since `known` comes whole.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Raw, Struct, structs
from sqlalchemy import ColumnElement, CompoundSelect, Row, Select, and_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.directory.sync_place import is_number
from app.protocols.messenger.journal_message_tables import chat_messages, chat_receipts
from app.protocols.messenger.journal_tables import chat_clock, chat_devices, chat_members, chat_rooms
from app.protocols.messenger.talk.journal_search import is_postgres
from app.protocols.messenger.talk.journal_visible import messages, seen, visible_to
from app.protocols.messenger.talk.receipt_groups import ReceiptRow, grouped
from app.protocols.messenger.talk.settings import ROOMS_A_QUESTION
from app.protocols.messenger.talk.shapes import packed

_MESSAGE, _RECEIPT = chat_messages.c, chat_receipts.c
#: The bytes of a thing, as long as an answer has none: so many rows are asked for.
_LIKELY_BYTES = 250
_ROWS_A_QUESTION = 2_000
#: The words of a cursor within a round, and the digits of a number in it.
_WORDS = 6
#: No room has this id.
_BEHIND_ALL = 10**17


class SyncPlace(Struct, frozen=True):
    """How far a synchronisation has come."""

    known: int
    until: int = 0
    #: `m`, `r`, or "" between two rounds.
    stage: str = ""
    #: The rooms of the group: behind the first, up to the last; 0: the group is not chosen yet.
    behind: int = 0
    last: int = 0
    at: int = 0

    @property
    def cursor(self) -> str:
        """The same as text."""
        if not self.stage:
            return str(self.known)
        return f"{self.known}.{self.until}.{self.stage}.{self.behind}.{self.last}.{self.at}"


class SyncPart(Struct, frozen=True):
    """One part. Each message and each receipt is an object of JSON."""

    messages: list[Raw]
    receipts: list[Raw]
    cursor: str
    more: bool
    bytes: int


def read_place(cursor: str | None) -> SyncPlace:
    """The place of a cursor. Raises ChatRefusal."""
    if cursor is None:
        return SyncPlace(0)
    words = cursor.split(".")
    numbers = [int(word) for word in words[:2] + words[3:] if is_number(word)]
    if len(words) == len(numbers) == 1:
        return SyncPlace(numbers[0])
    if len(words) == _WORDS == len(numbers) + 1 and words[2] in ("m", "r"):
        known, until, behind, last, at = numbers
        return SyncPlace(known, until, words[2], behind, last, at)
    raise ChatRefusal("bad_request", "cursor: expected the cursor of an earlier answer, or null.")


class _Room(Struct, frozen=True):
    """A room of the user, as a round reads it: messages behind `floor`, that have changed behind `known`."""

    id: int
    floor: int
    known: int


class _Part:
    """The content of one answer so far."""

    def __init__(self, max_bytes: int, is_empty: bool) -> None:
        self.left = self._max_bytes = max_bytes
        self.is_empty = is_empty
        self.messages: list[Raw] = []
        self.receipts: list[Raw] = []

    def add(self, to: list[Raw], one: bytes) -> bool:
        """Whether there was room for it; one that is too large comes alone."""
        if len(one) + 1 > self.left and not self.is_empty:
            return False
        to.append(Raw(one))
        self.left -= len(one) + 1
        self.is_empty = False
        return True

    @property
    def rows(self) -> int:
        """How many rows are worth asking for: those that do not fit are read for nothing."""
        count = len(self.messages) + len(self.receipts)
        likely = (self._max_bytes - self.left) // count if count else _LIKELY_BYTES
        return max(1, min(_ROWS_A_QUESTION, self.left // max(1, likely)))


async def sync_part(
    sql: AsyncConnection, site_id: int, me: int, cursor: str | None, max_bytes: int, *, is_empty: bool = True
) -> SyncPart:
    """The next part of at most so many bytes. `is_empty`: nothing else is in the answer, so that a single larger thing
    may come. Raises ChatRefusal."""
    place = read_place(cursor)
    part = _Part(max_bytes, is_empty)
    last = await _last(sql, site_id)
    if not place.stage:
        # A cursor of another database, or of one that was set back, knows nothing.
        known = place.known if place.known <= last else 0
        place = SyncPlace(known, last, "m")
    if place.stage == "m":
        place = await _read_messages(sql, site_id, me, place, part)
    if place.stage == "r":
        place = await _read_receipts(sql, site_id, me, place, part)
    return SyncPart(part.messages, part.receipts, place.cursor, bool(place.stage), max_bytes - part.left)


async def _last(sql: AsyncConnection, site_id: int) -> int:
    statement = select(chat_clock.c.last).where(chat_clock.c.site_id == site_id)
    return int((await sql.execute(statement)).scalar_one_or_none() or 0)


async def _read_messages(sql: AsyncConnection, site_id: int, me: int, place: SyncPlace, part: _Part) -> SyncPlace:
    rooms = await _rooms(sql, site_id, me, place)
    is_first = place.behind == 0
    while True:
        rooms = [room for room in rooms if room.id > place.behind]
        if not (rooms or is_first or place.last):
            return SyncPlace(place.known, place.until, "r")
        if not place.last:
            group = rooms[:ROOMS_A_QUESTION]
            # (Without rooms the first group has the direct messages alone.)
            place = structs.replace(place, last=group[-1].id if group else _BEHIND_ALL)
        group = [room for room in rooms if room.id <= place.last]
        at, is_done = await _read_group(sql, site_id, me, place, group, part)
        if not is_done:
            return structs.replace(place, at=at)
        is_first = False
        place = structs.replace(place, behind=place.last, last=0, at=0)


async def _rooms(sql: AsyncConnection, site_id: int, me: int, place: SyncPlace) -> list[_Room]:
    """The rooms of the user with changes that this round brings, by their ids."""
    members, rooms = chat_members.c, chat_rooms.c
    mine = and_(members.site_id == site_id, members.user_id == me, members.until.is_(None))
    # A room that was entered since the begin of the round is the next round's.
    statement = (
        select(rooms.id, rooms.has_history, rooms.widened, members.since)
        .select_from(chat_members.join(chat_rooms, rooms.id == members.room_id))
        .where(mine, members.since <= place.until)
        .order_by(rooms.id)
    )
    return [_as_read(row, place) for row in await sql.execute(statement)]


def _as_read(row: Row[Any], place: SyncPlace) -> _Room:
    is_new = row.since > place.known
    is_wider = row.has_history and place.known < row.widened <= place.until
    return _Room(row.id, 0 if row.has_history else row.since, 0 if is_new or is_wider else place.known)


async def _read_group(
    sql: AsyncConnection, site_id: int, me: int, place: SyncPlace, group: Sequence[_Room], part: _Part
) -> tuple[int, bool]:
    """Reads messages of some rooms, and with the first group direct ones, in the order of their changes. Answers how
    far it came, and whether that is all."""
    at = place.at
    while True:
        sources = [_changes_in(site_id, room, at, place.until) for room in group]
        if place.behind == 0:
            sources += _direct_changes(site_id, me, max(place.known, at), place.until)
        if not sources:
            return at, True
        most = part.rows
        changes = union_all(*_first_of(sql, sources, most)).order_by("change").limit(most).subquery()
        statement = messages().join(changes, _MESSAGE.key == changes.c.key).order_by(_MESSAGE.change)
        rows = (await sql.execute(statement)).all()
        for row in rows:
            message = seen(row, me)
            if not (place.known == 0 and message.is_deleted) and not part.add(part.messages, packed_change(message)):
                return at, False
            at = row.change
        if len(rows) < most:
            return at, True


def _first_of(sql: AsyncConnection, sources: Sequence[Select[Any]], most: int) -> list[Select[Any]]:
    """The sources, of which no more than the first rows are read. SQLite merges them in the order of their index;
    PostgreSQL would read them to their ends, and sort."""
    if not is_postgres(sql):
        return list(sources)
    firsts = [one.order_by(_MESSAGE.change).limit(most).subquery() for one in sources]
    return [select(first.c.change, first.c.key) for first in firsts]


def packed_change(message: Any) -> bytes:
    """A message of `sync`; of one that is deleted there is its id alone."""
    if message.is_deleted:
        return b'{"id":%d,"deleted":true}' % message.id
    return packed(message)


def _changes_in(site_id: int, room: _Room, at: int, until: int) -> Select[Any]:
    behind: list[ColumnElement[bool]] = [
        _MESSAGE.site_id == site_id,
        _MESSAGE.conversation == f"r{room.id}",
        # (A message has its last change behind its begin.)
        _MESSAGE.change > max(room.known, room.floor, at),
        _MESSAGE.change <= until,
    ]
    if room.floor:
        behind.append(_MESSAGE.id > room.floor)
    return select(_MESSAGE.change, _MESSAGE.key).where(*behind)


def _direct_changes(site_id: int, me: int, behind: int, until: int) -> list[Select[Any]]:
    changed = (_MESSAGE.site_id == site_id, _MESSAGE.change > behind, _MESSAGE.change <= until)
    sent = select(_MESSAGE.change, _MESSAGE.key).where(
        *changed, _MESSAGE.from_user_id == me, _MESSAGE.to_user_id.is_not(None)
    )
    received = select(_MESSAGE.change, _MESSAGE.key).where(
        *changed,
        _MESSAGE.to_user_id == me,
        # (A message to oneself is among the sent ones.)
        _MESSAGE.from_user_id != me,
        _MESSAGE.is_withheld.is_(False),
    )
    return [sent, received]


async def _read_receipts(sql: AsyncConnection, site_id: int, me: int, place: SyncPlace, part: _Part) -> SyncPlace:
    """Reads the receipts of what the user has sent, and those of what it has read."""
    at = place.at
    while True:
        most = part.rows
        rows_of_both = _changed_receipts(site_id, me, max(place.known, at), place.until)
        found = rows_of_both.order_by("change").limit(most).subquery()
        of_message = and_(_MESSAGE.site_id == site_id, _MESSAGE.id == found.c.message_id)
        joined = found.join(chat_messages, of_message).join(chat_devices, chat_devices.c.id == found.c.device_id)
        shown = select(found, chat_devices.c.device, visible_to(me).label("is_visible"))
        statement = shown.select_from(joined).order_by(found.c.change)
        rows = (await sql.execute(statement)).all()
        for one, change in grouped(_receipt(row) for row in rows if row.is_visible):
            if not part.add(part.receipts, one):
                return structs.replace(place, at=at)
            at = change
        if len(rows) < most:
            return SyncPlace(place.until)
        at = rows[-1].change


def _changed_receipts(site_id: int, me: int, behind: int, until: int) -> CompoundSelect[Any]:
    changed = (_RECEIPT.site_id == site_id, _RECEIPT.change > behind, _RECEIPT.change <= until)
    names = ("message_id", "user_id", "device_id", "delivered_at", "read_at", "change")
    columns = [_RECEIPT[name] for name in names]
    of_sent = select(*columns).where(*changed, _RECEIPT.sender_id == me)
    # (Nobody has a receipt for a message of its own.)
    of_read = select(*columns).where(*changed, _RECEIPT.user_id == me, _RECEIPT.read_at.is_not(None))
    return union_all(of_sent, of_read)


def _receipt(row: Row[Any]) -> ReceiptRow:
    state, at = ("read", row.read_at) if row.read_at is not None else ("delivered", row.delivered_at)
    return ReceiptRow(row.message_id, row.user_id, row.device, state, at, row.change)
