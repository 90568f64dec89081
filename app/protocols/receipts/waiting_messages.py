"""Messages that still wait, from the queues alone: for nodes without a journal, and while the journal is behind."""

from collections.abc import Callable, Iterable

from msgspec import Struct

from app.config.settings import Site
from app.core.address import addresses, is_user_room
from app.protocols.receipts.ports import ALL_DEVICES, DeviceFacts, QueueReader, Scan, Steps, WaitingMessage
from app.protocols.receipts.refusal import ReceiptRefused
from app.protocols.receipts.settings import MAX_LOOKED_AT, MAX_ROOMS_SCANNED, MAX_SORTED, MESSAGES_A_RUN


class ReceiptPlace(Struct, frozen=True):
    """Where the next page of a message's devices begins."""

    #: In the journal: behind this device.
    journal: int | None = None
    #: In the queues: which of the hashes that may name the devices, where in it, and how many devices are shown.
    source: int = 0
    scan: Scan = Scan()
    shown: int = 0


class Wanted(Struct, frozen=True):
    """Which of the waiting messages to list; None: any."""

    room: str | None = None
    user: str | None = None
    event: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class DevicePart(Struct, frozen=True):
    """A part of the devices that have a message in their queue."""

    devices: list[DeviceFacts]
    next: ReceiptPlace | None


class MessagePart(Struct, frozen=True):
    """A part of the messages that wait, newest first."""

    messages: list[WaitingMessage]
    #: Below which seq to go on; None: that was all.
    next: int | None


async def find_waiting(queues: QueueReader, site: Site, id: int, steps: Steps) -> WaitingMessage | None:
    """A message that waits in some queue; None: it waits nowhere."""
    seq = await queues.seq_of(site, id)
    found = await queues.describe_messages(site, [seq], steps) if seq is not None else []
    return found[0] if found else None


async def devices_waiting(
    queues: QueueReader, site: Site, message: WaitingMessage, begin: ReceiptPlace, limit: int, steps: Steps
) -> DevicePart:
    """The devices that have the message in their queue. Redis keeps no list of them for a message without options: they
    are looked for in its rooms, and then among all devices, until as many are found as its body counts."""
    sources = _sources(site, message)
    handles: list[int] = []
    place: ReceiptPlace | None = begin
    looked_at = min(limit, MAX_SORTED)
    while place is not None and len(handles) < limit and not steps.are_used_up:
        part = await queues.handles(site, sources[place.source], place.scan, looked_at, steps)
        # Where few have the message, further steps look at more.
        looked_at = min(2 * looked_at, MAX_SORTED)
        outside = sources[: place.source]
        holders = await queues.holders(site, message.seq, part.handles, outside, steps)
        holding = set(holders.handles)
        done = 0
        for handle in part.handles[: holders.looked_at]:
            if len(handles) == limit:
                break
            done += 1
            if handle in holding:
                handles.append(handle)
        following = part.rest(done, place.scan)
        source = place.source if following is not None else place.source + 1
        is_over = source == len(sources) or begin.shown + len(handles) >= message.waiting
        place = (
            None if is_over else ReceiptPlace(source=source, scan=following or Scan(), shown=begin.shown + len(handles))
        )
    described = await queues.describe_devices(site, handles, Steps(limit + 1))
    return DevicePart([device for device in described if device is not None], place)


def _sources(site: Site, message: WaitingMessage) -> list[str]:
    """The hashes and sets that may name the devices of a message; one device may stand in several."""
    if message.options:
        return [f"to:{message.seq}"]
    names = addresses(site, message.rooms)
    return [*names, ALL_DEVICES] if len(names) <= MAX_ROOMS_SCANNED else [ALL_DEVICES]


async def list_waiting(
    queues: QueueReader, site: Site, wanted: Wanted, before: int | None, limit: int, steps: Steps
) -> MessagePart:
    """The messages that wait and pass the filter, newest first."""
    seqs, floor = await _seqs_below(queues, site, wanted.user, before, steps)
    passes = _test_of(site, wanted)
    found: list[WaitingMessage] = []
    for start in range(0, len(seqs), MESSAGES_A_RUN):
        part = seqs[start : start + MESSAGES_A_RUN]
        if steps.are_used_up:
            return MessagePart(found, before)
        for seq, message in zip(part, await queues.describe_messages(site, part, steps), strict=False):
            before = seq
            if message is None:
                continue
            if wanted.since_ms is not None and message.accepted_ms < wanted.since_ms:
                return MessagePart(found, None)
            if passes(message):
                found.append(message)
            if len(found) == limit:
                return MessagePart(found, before)
        if before != part[-1]:
            # The steps were used up within this part.
            return MessagePart(found, before)
    return MessagePart(found, floor)


async def _seqs_below(
    queues: QueueReader, site: Site, user: str | None, before: int | None, steps: Steps
) -> tuple[list[int], int | None]:
    """Seqs of messages that may wait, newest first, and below which seq there may be more; None: that was all."""
    if user is None:
        part = await queues.waiting_seqs(site, before, MAX_LOOKED_AT)
        return part.seqs, part.next
    part_of_user = await queues.handles(site, f"user:{user}", Scan(), MAX_SORTED, steps)
    seqs: set[int] = set()
    for handle in part_of_user.handles:
        seqs.update(await queues.queued_seqs(site, handle, steps))
    if part_of_user.next is not None or steps.are_used_up:
        text = "user: too many devices or messages for one answer; ask for the queues of single devices."
        raise ReceiptRefused(text, "too_many_devices")
    return sorted((seq for seq in seqs if before is None or seq < before), reverse=True), None


def _test_of(site: Site, wanted: Wanted) -> Callable[[WaitingMessage], bool]:
    """Whether a message passes the filter, but for its user."""
    tests: list[Callable[[WaitingMessage], bool]] = []
    if wanted.event is not None:
        tests.append(lambda message: message.event == wanted.event)
    if wanted.room is not None:
        room = _name_of(site, wanted.room)
        tests.append(lambda message: room in (_name_of(site, one) for one in message.rooms))
    if wanted.since_ms is not None:
        since_ms = wanted.since_ms
        tests.append(lambda message: message.accepted_ms >= since_ms)
    if wanted.until_ms is not None:
        until_ms = wanted.until_ms
        tests.append(lambda message: message.accepted_ms <= until_ms)
    return lambda message: _passes(message, tests)


def _passes(message: WaitingMessage, tests: Iterable[Callable[[WaitingMessage], bool]]) -> bool:
    return all(test(message) for test in tests)


def _name_of(site: Site, room: str) -> str:
    """The name under which rooms are compared."""
    return room if is_user_room(site, room) else room.lower()
