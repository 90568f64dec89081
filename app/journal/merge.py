"""The entries of a stream, read and merged in memory: a delivery that was sent and acknowledged within one batch
becomes one row with its final state. Plain code without I/O. Knows neither SQL nor Redis.

An entry that cannot be read is counted and passed over; it never stops the entries behind it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import structlog
from msgspec import Struct, field

from app.journal.node_rows import row_of
from app.journal.states import FATES, FIRST_FINAL, LOST_DATA, QUEUE_FULL, Fate, reason_number
from app.journal.tables import ROW_TABLES

#: Texts longer than this are cut: the keys of an index have a bound.
MAX_TEXT_CHARACTERS = 500
_LARGEST = 2**63 - 1
_LONGEST_MS = 2**31 - 1

_log = structlog.get_logger(__name__)

#: One entry as Redis answers it: its id and its fields.
Entry = tuple[bytes, Sequence[bytes]]


class Mark(NamedTuple):
    """The state of a delivery with its times, as a row has it. Deliveries with the same fate share one."""

    state: int
    reason: int = 0
    is_batch: bool = False
    written_at: int | None = None
    acked_at: int | None = None
    ms: int | None = None
    ended_at: int | None = None


WAITING = Mark(Fate.WAITING)


class SentMessage(Struct):
    """A message that was accepted, with its deliveries by handle."""

    id: int
    event: str
    rooms: str
    room_names: list[str]
    size: int
    accepted_at: int
    options: str = ""
    body: str | None = None
    nodes: int | None = None
    deliveries: dict[bytes, Mark] = {}


class Loss(Struct, frozen=True):
    """Redis came back without its newest writes: deliveries between these seqs are resynced."""

    from_seq: int
    to_seq: int
    at: int


class Merged(Struct):
    """The outcome of some entries of one stream. Lives until it is written."""

    #: By seq.
    messages: dict[int, SentMessage] = field(default_factory=dict)
    #: Deliveries of earlier messages: seq -> handle -> mark.
    later: dict[int, dict[bytes, Mark]] = field(default_factory=dict)
    #: (handle, user, device), in order.
    devices: list[tuple[bytes, str, str]] = field(default_factory=list)
    #: Table -> rows as dictionaries of known columns, and `site` for entries of no site.
    rows: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    #: A loss is a batch of its own: it concerns what the entries before it have left in SQL.
    loss: Loss | None = None
    #: The entries in it, and the id of the last one.
    entries: int = 0
    last_id: str = ""
    unreadable: int = 0

    def handles(self) -> set[bytes]:
        """Every handle that a row needs the device of."""
        found: set[bytes] = set()
        for message in self.messages.values():
            found.update(message.deliveries)
        for deliveries in self.later.values():
            found.update(deliveries)
        return found


def merge(entries: Sequence[Entry], rows_behind: bytes = b"") -> Merged:
    """Merges entries in their order, up to a loss. Rows of nodes in entries up to the id `rows_behind` are in SQL."""
    batch = Merged()
    for id, words in entries:
        if words[:2] == [b"k", b"lost"] and batch.entries:
            break
        batch.entries += 1
        batch.last_id = id.decode()
        try:
            fields = dict(zip(words[::2], words[1::2], strict=True))
            kind = fields[b"k"]
            if kind == b"rows" and not is_behind(id, rows_behind):
                continue
            _KINDS[kind](batch, fields)
        except (KeyError, ValueError, msgspec.MsgspecError, RecursionError) as error:
            batch.unreadable += 1
            _log.error(
                "journal entry not readable", entry=batch.last_id, reason=f"{type(error).__name__}: {error}"[:200]
            )
        if batch.loss is not None:
            break
    return batch


def is_behind(id: bytes, other: bytes) -> bool:
    """Whether an entry's id is greater than another; "" is before all."""
    return not other or id_parts(id) > id_parts(other)


def id_parts(id: bytes | str) -> tuple[int, int]:
    """The two numbers of an entry's id."""
    text = id.decode() if isinstance(id, bytes) else id
    first, _, second = text.partition("-")
    return int(first), int(second or 0)


def joined(now: Mark, then: Mark) -> Mark:
    """The mark of a delivery after a further one: the first final one stays, with the newest time of writing before."""
    if now.state >= FIRST_FINAL or then.state < now.state:
        return now
    if then.written_at is None and now.written_at is not None:
        return then._replace(written_at=now.written_at)
    return then


def counts_of(deliveries: Mapping[bytes, Mark]) -> list[int]:
    """How many deliveries are in each state, by its number."""
    # Most deliveries of a message share a few marks.
    counts = [0] * len(Fate)
    for (state, *_), count in Counter(deliveries.values()).items():
        counts[state] += count
    return counts


def _take_send(batch: Merged, fields: Mapping[bytes, bytes]) -> None:
    seq = _number(fields[b"seq"])
    message = _message(fields)
    at = message.accepted_at
    message.deliveries = dict.fromkeys(_handles(fields[b"to"]), WAITING)
    if fields.get(b"over"):
        _apply(message.deliveries, _handles(fields[b"over"]), Mark(Fate.RESYNCED, QUEUE_FULL, ended_at=at))
    batch.messages.setdefault(seq, message)


def _take_more(batch: Merged, fields: Mapping[bytes, bytes]) -> None:
    seq = _number(fields[b"seq"])
    deliveries = _deliveries_of(batch, seq)
    for handle in _handles(fields[b"to"]):
        deliveries.setdefault(handle, WAITING)
    if fields.get(b"over"):
        message = batch.messages.get(seq)
        at = message.accepted_at if message else id_parts(batch.last_id)[0]
        _apply(deliveries, _handles(fields[b"over"]), Mark(Fate.RESYNCED, QUEUE_FULL, ended_at=at))


def _take_plain(batch: Merged, fields: Mapping[bytes, bytes]) -> None:
    seq = _number(fields[b"seq"])
    message = _message(fields)
    message.nodes = _number(fields[b"nodes"])
    batch.messages.setdefault(seq, message)


def _take_ack(batch: Merged, fields: Mapping[bytes, bytes]) -> None:
    for line in _lines(fields[b"a"]):
        kind, seq, written, acked, handles = line.split(b" ")
        if kind not in (b"one", b"batch"):
            raise ValueError("expected one or batch")
        written_at, acked_at = _number(written), _number(acked)
        ms = min(max(0, acked_at - written_at), _LONGEST_MS) if written_at else None
        mark = Mark(Fate.ACKED, 0, kind == b"batch", written_at or None, acked_at, ms, acked_at)
        _apply(_deliveries_of(batch, _number(seq)), _handles(handles), mark)


def _take_written(batch: Merged, fields: Mapping[bytes, bytes]) -> None:
    for line in _lines(fields[b"w"]):
        seq, written, handles = line.split(b" ")
        mark = Mark(Fate.WRITTEN, written_at=_number(written))
        _apply(_deliveries_of(batch, _number(seq)), _handles(handles), mark)


def _take_fate(batch: Merged, fields: Mapping[bytes, bytes]) -> None:
    state = FATES[fields[b"state"].decode()]
    mark = Mark(state, reason_number(_text(fields[b"reason"])), ended_at=_number(fields[b"at"]))
    for line in _lines(fields[b"d"]):
        seq, handles = line.split(b" ")
        _apply(_deliveries_of(batch, _number(seq)), _handles(handles), mark)


def _take_lost(batch: Merged, fields: Mapping[bytes, bytes]) -> None:
    batch.loss = Loss(_number(fields[b"from"]), _number(fields[b"to"]), _number(fields[b"at"]))


def _take_device(batch: Merged, fields: Mapping[bytes, bytes]) -> None:
    handle = fields[b"handle"]
    _number(handle)
    batch.devices.append((handle, _text(fields[b"user"]), _text(fields[b"device"])))


def _take_rows(batch: Merged, fields: Mapping[bytes, bytes]) -> None:
    table = ROW_TABLES[fields[b"table"].decode()]
    rows = batch.rows.setdefault(table.name, [])
    for given in msgspec.json.decode(fields[b"rows"], type=list[dict[str, object]]):
        try:
            rows.append(row_of(table, given))
        except ValueError as error:
            batch.unreadable += 1
            _log.error("journal row not readable", table=table.name, reason=str(error)[:200])


_KINDS = {
    b"send": _take_send,
    b"more": _take_more,
    b"plain": _take_plain,
    b"ack": _take_ack,
    b"written": _take_written,
    b"fate": _take_fate,
    b"lost": _take_lost,
    b"device": _take_device,
    b"rows": _take_rows,
}


def lost_mark(loss: Loss) -> Mark:
    """The mark of the deliveries of a loss."""
    return Mark(Fate.RESYNCED, LOST_DATA, ended_at=loss.at)


def _message(fields: Mapping[bytes, bytes]) -> SentMessage:
    rooms = msgspec.json.decode(fields[b"rooms"], type=list[str])
    return SentMessage(
        id=_number(fields[b"id"]),
        event=_text(fields[b"event"]),
        rooms=_clean(fields[b"rooms"]),
        room_names=list(dict.fromkeys(_cut(room) for room in rooms)),
        size=_number(fields[b"size"]),
        accepted_at=_number(fields[b"at"]),
        options=_options(fields.get(b"opt", b"")),
        body=_clean(fields[b"body"]) if b"body" in fields else None,
    )


def _options(text: bytes) -> str:
    if text:
        msgspec.json.decode(text, type=dict[str, object])
    return _clean(text)


def _deliveries_of(batch: Merged, seq: int) -> dict[bytes, Mark]:
    message = batch.messages.get(seq)
    if message is not None:
        return message.deliveries
    return batch.later.setdefault(seq, {})


def _apply(deliveries: dict[bytes, Mark], handles: Sequence[bytes], mark: Mark) -> None:
    for handle in handles:
        now = deliveries.get(handle)
        # Most are in no state yet, or wait.
        deliveries[handle] = mark if now is None or now is WAITING else joined(now, mark)


def _lines(text: bytes) -> list[bytes]:
    return [line for line in text.split(b"\n") if line]


def _handles(text: bytes) -> list[bytes]:
    if not text:
        return []
    handles = text.split(b",")
    if not text.replace(b",", b"").isdigit() or b"" in handles:
        raise ValueError("expected handles with commas between them")
    return handles


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise ValueError("expected a number")
    number = int(text)
    if number > _LARGEST:
        raise ValueError("expected a smaller number")
    return number


def _clean(text: bytes) -> str:
    """The text as SQL can hold it: PostgreSQL takes no NUL."""
    return text.decode("utf-8", "replace").replace("\0", "\ufffd")


def _cut(text: str) -> str:
    return text[:MAX_TEXT_CHARACTERS].replace("\0", "\ufffd")


def _text(text: bytes) -> str:
    return _cut(text.decode("utf-8", "replace"))
