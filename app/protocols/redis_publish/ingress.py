"""The ingress of a site: delivers an application's messages, from PUBLISH and from its stream, to its users' mailboxes,
in order. It works only on the node that holds the lease. Another node can take over at any moment."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from time import monotonic

import structlog

from app.clock import now_ms
from app.config.settings import Site
from app.errors import StoreError, StoreUnavailable, WrongType
from app.observe.counted_lines import CountedLines
from app.protocols.redis_publish.envelope import Destination, Envelopes, read_destination
from app.protocols.redis_publish.figures import RedisPublishCounts
from app.protocols.redis_publish.mailbox_ports import (
    Letter,
    LetterOutcome,
    Mailboxes,
    PublishStream,
    QueueEncoding,
    StreamEntry,
)
from app.protocols.redis_publish.settings import RedisPublish
from app.watched_tasks import start_watched

#: The bound of messages that are PUBLISHed and not delivered yet. Messages past it are lost, as Redis itself drops
#: messages for a slow reader.
MAX_BACKLOG_BYTES = 64_000_000
#: The number of mailboxes that are written to at a time.
_AT_ONCE = 500
_RETRY_SECONDS = 0.25
#: How often the owner looks for entries that another node read when its lease was already over.
_CLAIM_SECONDS = 2.0
_STOP_SECONDS = 0.5
_NO_DESTINATION = "not users.<uid> (no `:` in it) or channels.<cid>"

_Addressed = tuple[Destination, Letter]

_log = structlog.get_logger(__name__)


class Ingress:
    """The reader of one site on this node; lives as long as the node. Implements `PublishReader`."""

    def __init__(
        self,
        site: Site,
        settings: RedisPublish,
        mailboxes: Mailboxes,
        stream: PublishStream,
        encoding: QueueEncoding,
        counts: RedisPublishCounts,
    ) -> None:
        self._site = site.name
        self._prefix = settings.prefix
        self._mailboxes = mailboxes
        self._stream = stream
        self._encoding = encoding
        self._counts = counts
        self._refusals = CountedLines(_log, "warning", "message refused")
        limited_bytes = site.limits.message_bytes
        self._max_payload_bytes = min(settings.max_payload_bytes, limited_bytes or settings.max_payload_bytes)
        self._envelopes = Envelopes()
        self._backlog: deque[_Addressed] = deque()
        self._backlog_bytes = 0
        self._arrived = asyncio.Event()
        #: Set while every PUBLISHed message is delivered.
        self._is_idle = asyncio.Event()
        #: The end of this node's lease: on Redis's clock, and in monotonic seconds.
        self._until_ms = 0
        self._until = 0.0
        self._is_reading = False
        self._delivering: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None

    def lease_renewed(self, until_ms: int, until: float) -> None:
        """Notes the end of the lease; see `PublishReader`."""
        self._until_ms, self._until = until_ms, until

    def lease_taken(self, gap_ms: int) -> None:
        """Starts to deliver and to read; see `PublishReader`."""
        self._counts.holds_lease = 1
        if gap_ms > 0:
            self._counts.lease_gaps += 1
            self._counts.lease_gap_seconds += gap_ms / 1000
            _log.warning("redis publish lease gap", site=self._site, gap_ms=gap_ms)
        self._is_reading = True
        self._delivering = start_watched(self._deliver_published(), "redis publish deliver")
        self._reading = start_watched(self._keep_reading(), "redis publish stream", may_return=True)

    async def stop_reading(self) -> None:
        """Stops reading the stream; see `PublishReader`."""
        self._is_reading = False
        reading, self._reading = self._reading, None
        if reading is not None:
            # Redis may still assign entries to a read that is cancelled: only the next claim would find them.
            await self._stream.stop()
            await asyncio.wait([reading], timeout=_STOP_SECONDS)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def lease_lost(self) -> None:
        """Stops reading and delivering; see `PublishReader`."""
        self._counts.holds_lease = 0
        await self.stop_reading()
        delivering, self._delivering = self._delivering, None
        if delivering is not None:
            # The messages that this node has heard are delivered, as far as the lease lasts.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_idle.wait(), _STOP_SECONDS)
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)
        self._counts.outcomes["lost"] += len(self._backlog)
        self.forget_published()

    def forget_published(self) -> None:
        """Empties the backlog; see `PublishReader`."""
        self._backlog.clear()
        self._backlog_bytes = 0

    def message_published(self, destination: str, payload: bytes) -> None:
        """Adds a message to the backlog; see `PublishReader`."""
        self._counts.received["publish"] += 1
        address = read_destination(destination)
        if address is None or len(payload) > self._max_payload_bytes:
            self._refuse("publish", destination, "too long" if address else _NO_DESTINATION)
            return
        if self._backlog_bytes > MAX_BACKLOG_BYTES:
            self._counts.outcomes["lost"] += 1
            return
        entry = self._envelopes.seal(f"{self._prefix}.{address}", now_ms(), payload, self._encoding.is_uri)
        self._backlog.append((address, Letter(entry)))
        self._backlog_bytes += len(entry)
        self._is_idle.clear()
        self._arrived.set()

    async def _deliver_published(self) -> None:
        while True:
            self._is_idle.set()
            await self._arrived.wait()
            self._arrived.clear()
            while self._backlog:
                taken = self._take_backlog()
                try:
                    errors = await self._deliver(taken)
                except Exception:
                    # Only these messages are lost: the ones behind them, and other sites, go on.
                    self._counts.outcomes["lost"] += len(taken)
                    _log.exception("published messages lost", site=self._site, count=len(taken))
                    continue
                if errors:
                    # These messages may have arrived, and PUBLISH promises at most one delivery: no retry.
                    self._counts.outcomes["lost"] += len(errors)
                    _log.error("published messages lost", site=self._site, count=len(errors), reason=str(errors[0]))

    def _take_backlog(self) -> list[_Addressed]:
        taken = [self._backlog.popleft() for _ in range(min(_AT_ONCE, len(self._backlog)))]
        self._backlog_bytes -= sum(len(letter.entry) for _, letter in taken)
        return taken

    async def _deliver(self, letters: Sequence[_Addressed]) -> list[StoreError]:
        """Delivers letters. Returns the errors of mailboxes where the write failed and a retry may succeed.

        A user's letters go to Redis in the order of their arrival.
        """
        errors: list[StoreError] = []
        given: list[_Addressed] = []
        answers: list[asyncio.Future[LetterOutcome]] = []
        try:
            for addressed in letters:
                destination, letter = addressed
                try:
                    async for users in self._users_of(destination):
                        given += [addressed] * len(users)
                        answers += [
                            asyncio.ensure_future(self._mailboxes.deliver(user, letter, self._until_ms))
                            for user in users
                        ]
                        if len(answers) >= _AT_ONCE:
                            errors += self._count(given, await asyncio.gather(*answers, return_exceptions=True))
                            given, answers = [], []
                except StoreError as error:
                    errors += self._count([addressed], [error])
            return errors + self._count(given, await asyncio.gather(*answers, return_exceptions=True))
        finally:
            for answer in answers:
                answer.cancel()

    async def _users_of(self, destination: Destination) -> AsyncIterator[list[str]]:
        if destination.kind == "users":
            yield [destination.name]
            return
        async for users in self._mailboxes.members(destination.name):
            yield [user for user in users if read_destination(f"users.{user}") is not None]

    def _count(self, given: Sequence[_Addressed], answers: Sequence[LetterOutcome | BaseException]) -> list[StoreError]:
        errors = []
        for (destination, letter), answer in zip(given, answers, strict=True):
            if isinstance(answer, WrongType):
                # The error concerns this mailbox or channel alone and is permanent: later messages must not wait.
                form, place = ("stream", f"{letter.stream_id} to ") if letter.stream_id else ("publish", "")
                self._refuse(form, f"{place}{destination}", str(answer))
            elif isinstance(answer, StoreError):
                errors.append(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                self._counts.outcomes[answer.result] += 1
                self._counts.outcomes["dropped"] += answer.dropped
        return errors

    async def _keep_reading(self) -> None:
        while self._is_reading:
            try:
                await self._read_stream()
            except StoreUnavailable:
                await asyncio.sleep(_RETRY_SECONDS)
            except StoreError as error:
                _log.error("stream could not be read", site=self._site, reason=str(error))
                await asyncio.sleep(1)
            except Exception:
                _log.exception("stream could not be read", site=self._site)
                await asyncio.sleep(1)

    async def _read_stream(self) -> None:
        """Reads the stream until an error. The next call then claims every unacknowledged entry; the mailboxes
        recognise entries that had already arrived."""
        envelopes = Envelopes()
        claimed_at = 0.0
        while self._is_reading:
            if monotonic() > self._until:
                # The process slept past its lease, and another node may have taken over: an entry that this node reads
                # now would wait for the next owner.
                raise StoreUnavailable("the lease is over")
            if monotonic() - claimed_at > _CLAIM_SECONDS:
                await self._claim(envelopes)
                claimed_at = monotonic()
            entries = await self._stream.read()
            self._counts.received["stream"] += len(entries)
            await self._deliver_entries(entries, envelopes)

    async def _claim(self, envelopes: Envelopes) -> None:
        while claimed := await self._stream.claim():
            self._counts.claimed += len(claimed)
            await self._deliver_entries(claimed, envelopes)

    async def _deliver_entries(self, entries: Sequence[StreamEntry], envelopes: Envelopes) -> None:
        letters = [letter for entry in entries if (letter := self._read_entry(entry, envelopes)) is not None]
        errors = await self._deliver(letters)
        if errors:
            raise errors[0]
        if entries:
            await self._stream.acknowledge([entry.id for entry in entries])

    def _read_entry(self, entry: StreamEntry, envelopes: Envelopes) -> _Addressed | None:
        payload = entry.fields.get(b"payload")
        destination = read_destination(entry.fields.get(b"to", b"").decode("utf-8", "replace"))
        if payload is None or destination is None or len(payload) > self._max_payload_bytes:
            reason = "expected `to users.<uid>|channels.<cid>`, no `:` in <uid>, and `payload <not too long>`"
            self._refuse("stream", entry.id, reason)
            return None
        added_ms = int(entry.id.partition("-")[0])
        sealed = envelopes.seal(f"{self._prefix}.{destination}", added_ms, payload, self._encoding.is_uri)
        dedupe_id = entry.fields.get(b"id", b"").decode("utf-8", "replace")
        return destination, Letter(sealed, entry.id, dedupe_id)

    def _refuse(self, form: str, place: str, reason: str) -> None:
        self._counts.outcomes["refused"] += 1
        self._refusals.tell(site=self._site, form=form, reason=reason, shown={"place": place})
