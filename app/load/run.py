"""One run: connects the devices, has each send its messages to all of them, and counts. The work of a child process."""

import asyncio
import contextlib
from collections.abc import Iterator
from functools import partial
from time import monotonic
from typing import Any

import msgspec
from msgspec import Struct

from app.canary.wire import OwnPort, Wire, WireError
from app.config.settings import CANARY_SITE
from app.load.device import EVENT, LoadDevice, room_of
from app.load.plan import LoadPlan
from app.load.tally import Tally
from app.watched_tasks import start_logged

#: Messages under way: fewer than the hidden site's queue of a device holds.
_UNDER_WAY = 16
_CONNECTING = 32
#: How long a message is waited for, and how long the last receipts are.
_ARRIVAL_SECONDS = 5.0
_LAST_SECONDS = 0.5
_TTL_SECONDS = 60


class LoadTask(Struct, frozen=True):
    """The instructions of the child process. Its repr has no secret."""

    plan: LoadPlan
    #: The name of the run, which no other run has.
    run: str
    host: str
    port: int
    has_tls: bool
    key: str

    def __repr__(self) -> str:
        return f"LoadTask({self.run!r})"


class _Stored(Struct):
    """The answer of `/send` to a message that is stored."""

    recipients: int = 0


class LoadRun:
    """Lives as long as `drive`."""

    def __init__(self, task: LoadTask, target: OwnPort) -> None:
        self._task = task
        self._target = target
        self._names = [f"load-{task.run}-{number}" for number in range(task.plan.devices)]
        self._rooms = list(map(room_of, self._names))
        self._everywhere: dict[int, asyncio.Event] = {}
        self._devices: list[LoadDevice] = []
        self._tally = Tally(task.plan, 0)

    async def drive(self) -> dict[str, Any]:
        """The totals. The devices leave at the end. Raises WireError, OSError and TimeoutError of their connects."""
        readers: list[asyncio.Task[None]] = []
        try:
            await self._connect()
            self._tally = Tally(self._task.plan, len({device.node for device in self._devices}))
            for number, device in enumerate(self._devices):
                readers.append(start_logged(device.run(partial(self._arrived, number)), "load device"))
            began = monotonic()
            numbers = iter(range(self._task.plan.total))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._task.plan.seconds):
                    await asyncio.gather(*(self._send_all(numbers) for _ in range(_UNDER_WAY)))
            seconds = monotonic() - began
            await asyncio.sleep(_LAST_SECONDS)
            self._tally.receipts = sum(device.receipts for device in self._devices)
            self._tally.receipts_stored = self._tally.stored - await self._waiting()
            return self._tally.totals(seconds)
        finally:
            for reader in readers:
                reader.cancel()
            for device in self._devices:
                device.close()

    async def _connect(self) -> None:
        room = asyncio.Semaphore(_CONNECTING)

        async def connect(name: str) -> None:
            async with room:
                self._devices.append(await LoadDevice.open(self._target, self._task.key, name))

        await asyncio.gather(*map(connect, self._names))

    def _arrived(self, device: int, message: int) -> None:
        if self._tally.arrived(device, message, monotonic()) and (event := self._everywhere.get(message)) is not None:
            event.set()

    async def _send_all(self, numbers: Iterator[int]) -> None:
        """Sends the next message when its last one is everywhere, until none is left."""
        wire = await Wire.open(self._target)
        try:
            for message in numbers:
                event = self._everywhere[message] = asyncio.Event()
                if not await self._send(wire, message):
                    # The answer to a refused message may have closed the connection.
                    wire.close()
                    wire = await Wire.open(self._target)
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_ARRIVAL_SECONDS):
                        await event.wait()
                del self._everywhere[message]
        finally:
            wire.close()

    async def _send(self, wire: Wire, message: int) -> bool:
        self._tally.begin(message, monotonic())
        body = msgspec.json.encode({"rooms": self._rooms, "event": EVENT, "args": [message]})
        try:
            answer = await self._ask(wire, f"POST /send?site={CANARY_SITE}&ttl={_TTL_SECONDS}", body)
            recipients = msgspec.json.decode(answer, type=_Stored).recipients
        except (WireError, OSError, msgspec.DecodeError):
            self._tally.refused += 1
            return False
        self._tally.accepted(message, recipients, monotonic())
        return True

    async def _ask(self, wire: Wire, line: str, body: bytes = b"") -> bytes:
        headers = {"X-API-Key": self._task.key, "Accept": "application/json", "Content-Type": "application/json"}
        head = await wire.request(line, headers, body)
        answer = await wire.body(head)
        if head.status != 200:
            raise WireError(f"answered {head.status}")
        return answer

    async def _waiting(self) -> int:
        """The entries that the devices' queues still hold."""
        wire = await Wire.open(self._target)
        try:
            found = 0
            for room in self._rooms:
                answer = msgspec.json.decode(await self._ask(wire, f"GET /devices?site={CANARY_SITE}&user={room}"))
                found += sum(device["queue"]["messages"] for device in answer["devices"])
            return found
        finally:
            wire.close()
