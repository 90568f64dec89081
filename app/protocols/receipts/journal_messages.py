"""GET /messages, GET and DELETE /messages/<id>: the journal for what is over, the queues for what waits."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.clock import now_ms, rfc3339, rfc3339_or_none
from app.config.settings import Site
from app.core.follow_up import FollowUp
from app.errors import LimitReached
from app.journal.database import JournalUnavailable
from app.journal.journal import Journal, JournalDelivery, JournalMessage, MessageFilter
from app.journal.states import STATES, Fate
from app.protocols.receipts.answers import raw_body, waiting_device, waiting_message
from app.protocols.receipts.devices import Names
from app.protocols.receipts.page import Page
from app.protocols.receipts.parameters import Parameters
from app.protocols.receipts.ports import DeviceFacts, QueueReader, Steps
from app.protocols.receipts.redis_copies import Original, RedisCopies
from app.protocols.receipts.refusal import ReceiptRefused, journal_off, no_queues, not_sent_again, unknown_message
from app.protocols.receipts.settings import (
    ACKS_LOOKED_AT,
    JOURNAL_SECONDS,
    LEAST_ACKS_LOOKED_AT,
    MAX_STEPS,
    MOST_ACKS_LOOKED_AT,
)
from app.protocols.receipts.waiting_messages import ReceiptPlace, Wanted, devices_waiting, find_waiting, list_waiting
from app.protocols.receipts.words import waiting_reason, written_reason

_OPEN = (Fate.WAITING, Fate.WRITTEN)
_WAITING = Fate.WAITING.word
_FILTERS = ("room", "user", "event", "state", "since", "until", "order", "limit", "cursor", "bodies")


class MessageReceipts:
    """The questions about messages. Lives as long as the node, and keeps no state of a request."""

    def __init__(self, queues: QueueReader, follow_up: FollowUp, copies: RedisCopies) -> None:
        self._queues = queues
        self._copies = copies
        #: Set before the first question; None: there is none.
        self.journal: Journal | None = None
        self._follow_up = follow_up

    async def show(self, site: Site, query: Parameters, id: int) -> dict[str, Any]:
        """One message, with a part of its devices."""
        query.allow(("limit", "cursor", "bodies"))
        limit, place, bodies = query.limit(), query.cursor(ReceiptPlace), _wants_bodies(site, query)
        if place is not None and place.journal is None:
            return await self._show_waiting(site, query, id, place)
        is_current = await self._has_caught_up(site)
        found = await self._find(site, id, bodies)
        if found is None or self.journal is None:
            return await self._show_unwritten(site, query, id, is_current)
        begin = place.journal if place is not None else None
        part = await self.journal.deliveries(site.name, found.seq, limit, begin)
        devices = await self._with_reasons(site, found, part.deliveries)
        answer = _message(site, found) | {"devices": devices}
        answer["cursor"] = query.next_cursor(None if part.cursor is None else ReceiptPlace(journal=part.cursor))
        if bodies:
            answer["body"] = raw_body(found.body)
        if not is_current:
            answer |= await self._still_waiting(site, id, found)
        return answer

    async def list_messages(self, site: Site, query: Parameters) -> dict[str, Any]:
        """The messages of a site without their devices, newest first unless the query has another order."""
        query.allow(_FILTERS)
        is_oldest_first = query.choice("order", ("newest", "oldest")) == "oldest"
        state, bodies = query.choice("state", STATES), _wants_bodies(site, query)
        wanted = Wanted(
            query.text("room"), query.text("user"), query.text("event"), query.time("since"), query.time("until")
        )
        limit, before = query.limit(), query.cursor(int)
        is_current = await self._has_caught_up(site)
        # The queues are read newest first; of the oldest messages a journal that is behind knows enough.
        if state == _WAITING and not is_current and not is_oldest_first:
            return await self._list_waiting(site, query, wanted, before)
        if self.journal is None:
            raise journal_off()
        chosen = MessageFilter(
            room=wanted.room,
            user=wanted.user,
            event=wanted.event,
            state=STATES[state] if state else None,
            since=wanted.since_ms,
            until=wanted.until_ms,
            is_oldest_first=is_oldest_first,
        )
        part = await self.journal.messages(site.name, chosen, limit, before, body=bodies)
        page = Page(limit)
        for message in part.messages:
            if page.is_full:
                break
            page.add(_message(site, message) | ({"body": raw_body(message.body)} if bodies else {}))
        is_whole = len(page.items) == len(part.messages)
        following = part.cursor if is_whole else part.messages[len(page.items) - 1].seq
        return {
            "messages": page.items,
            "cursor": query.next_cursor(following),
            **({} if is_current else {"partial": True}),
        }

    async def withdraw(self, site: Site, query: Parameters, id: int) -> dict[str, Any]:
        """Takes a message out of every queue."""
        query.allow(())
        withdrawn = await self._follow_up.withdraw(site, id)
        if withdrawn is None and (self.journal is None or await self.journal.message(site.name, id) is None):
            raise unknown_message()
        return {"ok": True, "id": str(id), "devices": withdrawn.devices if withdrawn is not None else 0}

    async def send_again(self, site: Site, id: int, user: str, device: str) -> dict[str, Any]:
        """Sends a copy of a message to one device. Its content is known while some device has it in its queue, and
        where the journal keeps bodies."""
        if not site.has_queues:
            raise no_queues()
        found = await self._find(site, id, site.journal_bodies)
        waiting = await find_waiting(self._queues, site, id, Steps(MAX_STEPS)) if found is None else None
        if found is not None:
            original = Original(found.seq, found.event, found.body or "")
        elif waiting is not None:
            original = Original(waiting.seq, waiting.event, "")
        else:
            raise unknown_message()
        try:
            outcome, copy = await self._copies.send(site, original, user, device)
        except LimitReached as reached:
            raise ReceiptRefused(str(reached), reached.limit, reached.status) from None
        if refusal := not_sent_again(outcome):
            raise refusal
        return {"ok": True, "id": str(copy)}

    async def _find(self, site: Site, id: int, bodies: bool) -> JournalMessage | None:
        """A message of the journal; None also while the journal does not answer."""
        with contextlib.suppress(JournalUnavailable):
            return await self.journal.message(site.name, id, body=bodies) if self.journal is not None else None
        return None

    async def _has_caught_up(self, site: Site) -> bool:
        """Whether the journal has everything that Redis had at the call, after a wait of at most two seconds."""
        if self.journal is None:
            return False
        try:
            return await self.journal.caught_up(site.name, JOURNAL_SECONDS)
        except JournalUnavailable:
            return False

    async def _show_unwritten(self, site: Site, query: Parameters, id: int, is_current: bool) -> dict[str, Any]:
        """A message that the journal does not know, or not yet."""
        if is_current:
            raise unknown_message()
        return await self._show_waiting(site, query, id, ReceiptPlace())

    async def _show_waiting(self, site: Site, query: Parameters, id: int, place: ReceiptPlace) -> dict[str, Any]:
        """As far as the queues know a message."""
        steps = Steps(MAX_STEPS)
        message = await find_waiting(self._queues, site, id, steps)
        if message is None:
            if self.journal is None:
                raise journal_off()
            raise ReceiptRefused("The journal is behind, try again.", "journal_behind", 503)
        part = await devices_waiting(self._queues, site, message, place, query.limit(), steps)
        devices = [waiting_device(site, message, device) for device in part.devices]
        return waiting_message(site, message) | {"devices": devices, "cursor": query.next_cursor(part.next)}

    async def _still_waiting(self, site: Site, id: int, found: JournalMessage) -> dict[str, Any]:
        """Beside a journal that is behind: how many devices have the message in their queue at this moment."""
        message = await find_waiting(self._queues, site, id, Steps(MAX_STEPS))
        over = {state.word: count for state, count in found.summary.items() if state not in _OPEN}
        waiting = message.waiting if message is not None else 0
        return {"summary": {"addressed": found.addressed, _WAITING: waiting, **over}, "partial": True}

    async def _list_waiting(self, site: Site, query: Parameters, wanted: Wanted, before: int | None) -> dict[str, Any]:
        limit = query.limit()
        part = await list_waiting(self._queues, site, wanted, before, limit, Steps(MAX_STEPS))
        page = Page(limit)
        for message in part.messages:
            if page.is_full:
                break
            page.add(waiting_message(site, message))
        is_whole = len(page.items) == len(part.messages)
        following = part.next if is_whole else part.messages[len(page.items) - 1].seq
        return {"messages": page.items, "cursor": query.next_cursor(following), "partial": True}

    async def _with_reasons(
        self, site: Site, message: JournalMessage, deliveries: Sequence[JournalDelivery]
    ) -> list[dict[str, Any]]:
        """The devices of a message. Why one waits stands in Redis alone."""
        facts = await self.facts_of(site, [one for one in deliveries if one.state in _OPEN])
        return [_delivery(site, message, one, facts.get(one.device_id)) for one in deliveries]

    async def last_acks(self, site: Site, names: Iterable[Names]) -> Mapping[Names, int]:
        """When devices have acknowledged last, each among its newest messages."""
        with contextlib.suppress(JournalUnavailable):
            if self.journal is not None:
                known = list(names)
                share = ACKS_LOOKED_AT // max(1, len(known))
                looked_at = max(LEAST_ACKS_LOOKED_AT, min(share, MOST_ACKS_LOOKED_AT))
                return await self.journal.last_acks(site.name, known, looked_at)
        return {}

    async def facts_of(self, site: Site, deliveries: Sequence[JournalDelivery]) -> dict[int, DeviceFacts]:
        """The facts of Redis about the devices of these deliveries, by their numbers in the journal."""
        names = {one.device_id: (one.user, one.device) for one in deliveries}
        found = await asyncio.gather(*(self._queues.find_device(site, *pair) for pair in names.values()))
        handles = {device_id: handle for device_id, handle in zip(names, found, strict=True) if handle is not None}
        described = await self._queues.describe_devices(site, list(handles.values()), Steps(MAX_STEPS))
        pairs = zip(handles, described, strict=False)
        return {device_id: device for device_id, device in pairs if device is not None}


def _wants_bodies(site: Site, query: Parameters) -> bool:
    """Whether the answer shows kept bodies: when the request asks, and the site says that they are kept."""
    return query.flag("bodies") and site.journal_bodies


def _message(site: Site, message: JournalMessage) -> dict[str, Any]:
    counts = {state.word: message.summary.get(state, 0) for state in Fate}
    return {
        "id": str(message.id),
        "site": site.name,
        "event": message.event,
        "rooms": message.rooms,
        "bytes": message.bytes,
        "accepted_at": rfc3339(message.accepted_at),
        "options": message.options,
        "summary": {"addressed": message.addressed, **counts},
        **({} if message.nodes is None else {"nodes": message.nodes}),
    }


def _delivery(
    site: Site, message: JournalMessage, delivery: JournalDelivery, device: DeviceFacts | None
) -> dict[str, Any]:
    return {
        "user": delivery.user,
        "device": delivery.device,
        "state": delivery.state.word,
        "written_at": rfc3339_or_none(delivery.written_at),
        "acked_at": rfc3339_or_none(delivery.acked_at),
        **({} if delivery.ms is None else {"ms": delivery.ms}),
        **({"batch": True} if delivery.is_batch else {}),
        **({} if delivery.ended_at is None else {"ended_at": rfc3339(delivery.ended_at)}),
        "reason": reason_of(site, message, delivery, device),
    }


def reason_of(site: Site, message: JournalMessage, delivery: JournalDelivery, device: DeviceFacts | None) -> str:
    """Why a delivery is in its state; "" for one that needs no reason."""
    if delivery.state == Fate.WAITING:
        return waiting_reason(site, device, now_ms() - message.accepted_at, is_known_unwritten=True)
    if delivery.state == Fate.WRITTEN:
        return written_reason(site, device)
    return delivery.reason
