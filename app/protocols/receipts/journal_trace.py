"""GET /trace: what has happened to a user, in order of time, each line with its reason in words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import nlargest
from typing import Any

import msgspec
from msgspec import Struct

from app.clock import now_ms, rfc3339
from app.config.settings import Site
from app.core.live import TICKET_TAKEN
from app.journal.database import JournalUnavailable
from app.journal.journal import Journal, JournalRow, UserDelivery
from app.journal.states import Fate
from app.observe.records import SITE_BACKEND, TICKETS_REVOKED
from app.protocols.receipts.journal_messages import MessageReceipts, reason_of
from app.protocols.receipts.page import Page
from app.protocols.receipts.parameters import Parameters
from app.protocols.receipts.ports import DeviceFacts, QueueReader, Scan, Steps
from app.protocols.receipts.refusal import journal_off
from app.protocols.receipts.settings import JOURNAL_SECONDS, MAX_STEPS, MAX_TRACE_ROWS
from app.protocols.receipts.words import away_since_ms

#: How far back a trace without `since` looks.
_LOOK_BACK_MS = 24 * 3600 * 1000
_MAX_NAMED_USERS = 1_000_000
_ENDS = {
    Fate.EXPIRED: "expired, because its {reason} was over",
    Fate.REPLACED: "replaced by a newer message with the same collapse key",
    Fate.SETTLED: "settled: another device of the user has acknowledged it",
    Fate.WITHDRAWN: "withdrawn",
    Fate.RESYNCED: "dropped with the queue, the device gets _resync",
}


class Line(Struct, frozen=True):
    """One line of a trace."""

    at_ms: int
    kind: str
    text: str
    device: str | None = None
    message_id: int | None = None


class TraceReceipts:
    """The questions about users. Lives as long as the node, and keeps no state of a request."""

    def __init__(self, queues: QueueReader, messages: MessageReceipts) -> None:
        self._queues = queues
        self._messages = messages

    @property
    def _journal(self) -> Journal | None:
        return self._messages.journal

    async def trace(self, site: Site, query: Parameters) -> dict[str, Any]:
        """The newest lines of a user, oldest first."""
        query.allow(("user", "device", "since", "limit"))
        user, device = query.required("user"), query.text("device", may_be_empty=True)
        limit, since = query.limit(), query.time("since")
        if self._journal is None:
            raise journal_off()
        if since is None:
            since = now_ms() - _LOOK_BACK_MS
        is_current = await _has_caught_up(self._journal, site)
        lines, is_cut = await self._deliveries(site, user, device, since)
        lines += await self._rows(site, user, device, since)
        lines += await self._present(site, user, device)
        chosen = nlargest(limit, ((line.at_ms, number) for number, line in enumerate(lines) if line.at_ms >= since))
        page = Page(limit)
        shown = 0
        for _, number in chosen:
            if page.is_full:
                break
            page.add(_shown(lines[number]))
            shown += 1
        missing = await self._journal.missing_since(site.name, since)
        return {
            "user": user,
            "since": rfc3339(since),
            "lines": page.items[::-1],
            "has_more": is_cut or shown < sum(line.at_ms >= since for line in lines) or len(lines) >= MAX_TRACE_ROWS,
            "missing": missing,
            **({} if is_current else {"partial": True}),
        }

    async def _deliveries(self, site: Site, user: str, device: str | None, since: int) -> tuple[list[Line], bool]:
        """The lines of the user's messages, and whether there may be older ones."""
        assert self._journal is not None, "checked by the caller"
        found = await self._journal.user_deliveries(site.name, user, since, MAX_TRACE_ROWS, device)
        facts = await self._messages.facts_of(site, [one.delivery for one in found.items])
        lines: list[Line] = []
        for one in found.items:
            lines += _lines_of(site, one, facts.get(one.delivery.device_id))
        return lines, found.has_more

    async def _rows(self, site: Site, user: str, device: str | None, since: int) -> list[Line]:
        assert self._journal is not None, "checked by the caller"
        lines: list[Line] = []
        for table, read in (("connections", _connection), ("refusals", _refusal)):
            for row in await self._journal.user_rows(table, site.name, user, since, MAX_TRACE_ROWS):
                lines += _of_device(read(row.values), device)
        for row in await self._journal.site_rows("webhook_attempts", site.name, since, MAX_TRACE_ROWS):
            lines += _webhook(row, user)
        for row in await self._journal.site_rows("audit", site.name, since, MAX_TRACE_ROWS):
            lines += _revocation(row.values, user)
        return lines

    async def _present(self, site: Site, user: str, device: str | None) -> list[Line]:
        """The connections that have not ended: the journal has no row of them yet."""
        if not site.has_queues:
            return []
        steps = Steps(MAX_STEPS)
        part = await self._queues.handles(site, f"user:{user}", Scan(), MAX_TRACE_ROWS, steps)
        found = await self._queues.describe_devices(site, part.handles, steps)
        lines = (line for one in found if one is not None for line in _presence(site, one))
        return list(_of_device(lines, device))


async def _has_caught_up(journal: Journal, site: Site) -> bool:
    try:
        return await journal.caught_up(site.name, JOURNAL_SECONDS)
    except JournalUnavailable:
        return False


def _shown(line: Line) -> dict[str, Any]:
    return {
        "at": rfc3339(line.at_ms),
        "kind": line.kind,
        "text": line.text,
        **({} if line.device is None else {"device": line.device}),
        **({} if line.message_id is None else {"id": str(line.message_id)}),
    }


def _of_device(lines: Iterator[Line], device: str | None) -> Iterator[Line]:
    return (line for line in lines if device is None or line.device in (None, device))


def _lines_of(site: Site, one: UserDelivery, facts: DeviceFacts | None) -> Iterator[Line]:
    """The life of one message at one device."""
    delivery, message = one.delivery, one.message
    line = _lines_for(delivery.device, message.id)
    what = f"message {message.id} ({message.event})"
    if delivery.state in (Fate.WAITING, Fate.WRITTEN):
        reason = reason_of(site, message, delivery, facts)
        yield line(message.accepted_at, "accepted", f"{what} accepted; still {delivery.state.word}: {reason}")
    else:
        yield line(message.accepted_at, "accepted", f"{what} accepted")
    if delivery.written_at is not None:
        yield line(delivery.written_at, "written", f"{what} written to the connection")
    if delivery.state == Fate.ACKED:
        spent = "" if delivery.ms is None else f" after {delivery.ms} ms"
        batch = ", in a _batch" if delivery.is_batch else ""
        at = delivery.acked_at or delivery.ended_at or message.accepted_at
        yield line(at, "acked", f"{what} acknowledged{spent}{batch}")
    elif delivery.state in _ENDS:
        end = _ENDS[delivery.state].format(reason=delivery.reason)
        reason = f" ({delivery.reason})" if delivery.reason and "{reason}" not in _ENDS[delivery.state] else ""
        yield line(delivery.ended_at or message.accepted_at, delivery.state.word, f"{what} {end}{reason}")


def _lines_for(device: str, message_id: int) -> Callable[[int, str, str], Line]:
    return lambda at_ms, kind, text: Line(at_ms, kind, text, device, message_id)


def _connection(row: Mapping[str, object]) -> Iterator[Line]:
    device, client = _word(row, "device"), _client_text(row)
    if (at := _number(row, "connected_at")) is not None:
        yield Line(at, "connected", f"connected{client}{_ticket_text(_word(row, 'ticket'))}", device)
    if (at := _number(row, "disconnected_at")) is not None:
        reason = _word(row, "reason") or "reason not known"
        yield Line(at, "disconnected", f"disconnected: {reason}", device)


def _refusal(row: Mapping[str, object]) -> Iterator[Line]:
    if (at := _number(row, "at")) is not None:
        yield Line(at, "refused", f"refused: {_word(row, 'reason') or 'reason not known'}", _word(row, "device"))


def _webhook(row: JournalRow, user: str) -> Iterator[Line]:
    values = row.values
    at = _number(values, "at")
    if at is None or user not in _names(values.get("users")):
        return
    status, outcome = _number(values, "status"), _word(values, "outcome") or "tried"
    answer = _word(values, "error") or "no answer" if status is None else f"answered {status}"
    types = _word(values, "types") or "events"
    yield Line(at, "webhook", f"webhook {types}, attempt {_number(values, 'attempt') or 1}: {answer}, {outcome}")


def _revocation(values: Mapping[str, object], user: str) -> Iterator[Line]:
    """A revocation of resume tickets that may be this user's: of all the site, of its user room, or of another room,
    of which nobody knows any more who was in it. Operators are not named."""
    at, action = _number(values, "at"), _word(values, "action")
    if at is None or action != TICKETS_REVOKED:
        return
    rooms = _rooms_of(_word(values, "detail") or "")
    by = "its backend" if _word(values, "operator") == SITE_BACKEND else "an operator"
    if not rooms:
        yield Line(at, "tickets", f"resume tickets of all users revoked by {by}")
    elif user in rooms:
        yield Line(at, "tickets", f"resume tickets of this user revoked by {by}")
    elif others := [room for room in rooms if isinstance(room, str)]:
        yield Line(at, "tickets", f"resume tickets of the users in {', '.join(others[:5])} revoked by {by}")


def _rooms_of(detail: str) -> Sequence[object]:
    """The rooms in the detail of a revocation, a JSON object."""
    try:
        value = msgspec.json.decode(detail)
    except (msgspec.DecodeError, RecursionError):
        return ()
    rooms = value.get("rooms") if isinstance(value, dict) else None
    return rooms if isinstance(rooms, list) else ()


def _presence(site: Site, device: DeviceFacts) -> Iterator[Line]:
    client = device.client
    if device.nodes and client is not None:
        text = f"connected over {client.transport}, Engine.IO {client.engine_version}; connected now"
        yield Line(client.connected_ms, "connected", text, device.device)
    elif not device.nodes and (since := away_since_ms(site, device)) is not None:
        yield Line(since, "away", f"no connection since then; {device.messages} messages wait", device.device)
    if device.is_lost:
        yield Line(now_ms(), "resync", "the queue was dropped, a _resync is due", device.device)


def _ticket_text(ticket: str | None) -> str:
    if ticket is None:
        return ""
    return ", by its resume ticket" if ticket == TICKET_TAKEN else f"; its resume ticket was refused: {ticket}"


def _client_text(row: Mapping[str, object]) -> str:
    transport, version = _word(row, "transport"), _word(row, "version")
    return f" over {transport}{f', version {version}' if version else ''}" if transport else ""


def _word(row: Mapping[str, object], column: str) -> str | None:
    value = row.get(column)
    return value if isinstance(value, str) else None


def _number(row: Mapping[str, object], column: str) -> int | None:
    value = row.get(column)
    return value if isinstance(value, int) else None


def _names(packed: object) -> Sequence[object]:
    """The users in the column of an attempt, which holds a JSON list."""
    if not isinstance(packed, str) or len(packed) > _MAX_NAMED_USERS:
        return ()
    try:
        names = msgspec.json.decode(packed)
    except (msgspec.DecodeError, RecursionError):
        return ()
    return names if isinstance(names, list) else ()
