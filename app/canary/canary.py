"""The canary of one node: sends a message every 10 s, and says of a missing ack how far the message came."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from time import monotonic

import msgspec
import structlog
from msgspec import Struct

from app.canary.record import CanaryRecord, Stuck
from app.canary.session import CanarySession, room_of
from app.canary.wire import OwnPort, Wire, WireError
from app.config.settings import CANARY_SITE
from app.observe.counts import Counts
from app.watched_tasks import start_logged, start_watched

#: How long `/send` waits for the ack, and how long the canary then waits for the answer of `/send`.
_WAIT_SECONDS = 5
_ANSWER_SECONDS = 8.0
#: An unacknowledged message leaves the queue after this.
_TTL_SECONDS = 60
_OK = 200

_log = structlog.get_logger(__name__)


class Subject(Struct, frozen=True):
    """The node that its canary looks at. Lives as long as the node."""

    node: str
    #: The beginning of the ids of its Engine.IO sessions.
    own_sids: str
    #: The key of the hidden site.
    key: str
    #: Forgets a device of the hidden site, by user room and name.
    forget: Callable[[str, str], Awaitable[object]]

    def __repr__(self) -> str:
        return f"Subject({self.node!r})"


class _Answer(Struct):
    """The answer of `/send` to a message that is stored."""

    acked: int = 0
    waiting: int = 0


class _Missed(Exception):
    """A message got stuck here. The text is the reason for the log."""

    def __init__(self, place: Stuck, reason: str = "") -> None:
        super().__init__(reason)
        self.place = place


class Canary:
    """Lives as long as the node: `start` when the port listens, `close` when the node begins to drain."""

    #: From the start of one message to the next.
    every_seconds = 10.0

    def __init__(self, subject: Subject, counts: Counts) -> None:
        self._subject = subject
        self._counts = counts
        self._record = counts.part(CanaryRecord)
        self._target = OwnPort("", 0)
        self._task: asyncio.Task[None] | None = None
        self._session: CanarySession | None = None
        self._reading: asyncio.Task[None] | None = None
        self._number = 0

    @property
    def is_well(self) -> bool:
        """Whether the last message was delivered, or none was sent yet."""
        return self._record.is_well

    def start(self, target: OwnPort) -> None:
        """Sends the first message at once."""
        self._target = target
        self._task = start_watched(self._keep_sending(), "canary")

    async def close(self) -> None:
        """Ends the session, and forgets the device with its queue. Idempotent. A message under way does not count."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self._leave()
        try:
            async with asyncio.timeout(1):
                await self._subject.forget(room_of(self._subject.node), self._subject.node)
        except Exception as error:
            # The other nodes forget it after its time to live.
            _log.info("canary not forgotten", reason=str(error))

    async def _keep_sending(self) -> None:
        while True:
            began = monotonic()
            try:
                await self._send_one()
            except Exception:
                self._counts.faults["canary"] += 1
                _log.exception("canary failed")
            await asyncio.sleep(max(0.0, self.every_seconds - (monotonic() - began)))

    async def _send_one(self) -> None:
        began = monotonic()
        try:
            session = await self._joined()
            began = monotonic()
            await self._deliver(session)
        except _Missed as missed:
            self._record.note_missed(missed.place)
            reason = {"reason": str(missed)} if str(missed) else {}
            seconds = round(monotonic() - began, 3)
            _log.warning("canary missed", place=missed.place.value, number=self._number, seconds=seconds, **reason)
        else:
            self._record.note_delivered(monotonic() - began)

    async def _joined(self) -> CanarySession:
        """The session, made again when the last one has ended."""
        if self._session is not None and self._session.is_open:
            return self._session
        await self._leave()
        subject = self._subject
        try:
            session = await CanarySession.open(self._target, subject.own_sids, subject.node, subject.key)
        except (WireError, OSError, ssl.SSLError, TimeoutError) as error:
            raise _Missed(Stuck.NOT_CONNECTED, str(error) or "no answer in time") from None
        self._session = session
        self._reading = start_logged(session.run(), "canary session")
        return session

    async def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None

    async def _deliver(self, session: CanarySession) -> None:
        """Sends one message and waits for its ack. Raises _Missed."""
        self._number += 1
        heard = self._heard()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await self._post()
        except (WireError, OSError, TimeoutError, msgspec.DecodeError) as error:
            raise _Missed(Stuck.NOT_ACCEPTED, str(error) or "no answer in time") from None
        if answer.acked:
            return
        if not answer.waiting:
            # The device is not connected, as far as Redis knows: a new session registers it.
            await self._leave()
            raise _Missed(Stuck.NOT_CONNECTED, "the session has ended")
        is_own = session.sid.startswith(self._subject.own_sids)
        if is_own and self._heard() == heard:
            raise _Missed(Stuck.NOT_HEARD)
        if not session.has(self._number):
            raise _Missed(Stuck.NOT_WRITTEN, "" if is_own else "the session is at another worker")
        raise _Missed(Stuck.NOT_ACKED)

    def _heard(self) -> int:
        return self._counts.of(CANARY_SITE).bus_messages

    async def _post(self) -> _Answer:
        query = f"site={CANARY_SITE}&wait=all&timeout={_WAIT_SECONDS}&ttl={_TTL_SECONDS}"
        message = {"rooms": [room_of(self._subject.node)], "event": "canary", "args": [self._number]}
        headers = {"X-API-Key": self._subject.key, "Accept": "application/json", "Content-Type": "application/json"}
        wire = await Wire.open(self._target)
        try:
            head = await wire.request(
                f"POST /send?{query}", {**headers, "Connection": "close"}, msgspec.json.encode(message)
            )
            if head.status != _OK:
                raise WireError(f"/send answered {head.status}")
            return msgspec.json.decode(await wire.body(head), type=_Answer)
        finally:
            wire.close()
