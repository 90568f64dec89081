"""One run over a messenger's room: the users log in, each sends its messages to the room, and all are counted. The work
of a child process."""

import asyncio
import contextlib
import uuid
from collections.abc import Iterator
from functools import partial
from time import monotonic
from typing import Any

from msgspec import Struct

from app.canary.wire import OwnPort, WireError
from app.load.chat_device import ChatDevice, ChatHearer, ChatUserLogin
from app.load.chat_tally import ChatTally
from app.load.plan import LoadPlan
from app.watched_tasks import start_logged

#: Messages of one user under way: the server lets 32 events of a connection wait.
_UNDER_WAY = 16
#: A session comes to the process that the kernel chooses: so often a user connects again for one that has none yet.
_TRIES = 12
#: How long the last receipts are waited for, and how long without any.
_LAST_SECONDS = 20.0
_SILENT_SECONDS = 3.0
_LOOK_SECONDS = 0.05
_AGAIN_SECONDS = 0.5
#: A message has about so many characters.
_FILL = " the quick brown fox jumps over the lazy dog" * 2


class ChatLoadTask(Struct, frozen=True):
    """The instructions of a run. Its repr has no secret."""

    plan: LoadPlan
    #: The name of the run, which no other run has.
    run: str
    site: str
    room: int
    users: list[ChatUserLogin]
    #: The server, where it is not the caller's to know.
    host: str = ""
    port: int = 0
    has_tls: bool = False
    #: The key of the server's own certificates.
    key: str = ""

    def __repr__(self) -> str:
        return f"ChatLoadTask({self.run!r})"


class ChatLoadRun:
    """Lives as long as `drive`."""

    def __init__(self, task: ChatLoadTask, target: OwnPort) -> None:
        self._task = task
        self._target = target
        self._tag = f"load {task.run} "
        self._devices: list[ChatDevice] = []
        self._readers: list[asyncio.Task[None]] = []
        self._tally = ChatTally(task.plan, 0)

    async def drive(self) -> dict[str, Any]:
        """The totals. The users leave at the end. Raises WireError, OSError and TimeoutError of their connects."""
        try:
            for number, user in enumerate(self._task.users):
                await self._connect(number, user)
            self._tally = ChatTally(self._task.plan, len({device.node for device in self._devices}))
            began = monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._task.plan.seconds):
                    await self._send_all()
            seconds = await self._last_receipts() - began
            self._tally.receipts = sum(device.receipts for device in self._devices)
            return self._tally.totals(seconds)
        finally:
            for reader in self._readers:
                reader.cancel()
            for device in self._devices:
                device.close()

    async def _connect(self, number: int, user: ChatUserLogin) -> None:
        """Connects a user, at a process that has none of the others where there is one."""
        taken = {device.node for device in self._devices}
        # The same in each run: what waits for the device of an earlier one does not pile up.
        name = f"load-{number}"
        for _ in range(_TRIES):
            device = await ChatDevice.connect(self._target, self._task.site, name)
            if device.node not in taken:
                break
            device.close()
        else:
            device = await ChatDevice.connect(self._target, self._task.site, name)
        hearer = ChatHearer(partial(self._arrived, number), self._told, self._tag)
        self._devices.append(device)
        self._readers.append(start_logged(device.run(hearer), "load user"))
        await device.log_in(user)
        await device.ask("load_join", {"run": self._task.run})

    def _arrived(self, device: int, message: int) -> None:
        if message // self._task.plan.messages != device:
            self._tally.arrived(device, message, monotonic())

    def _told(self, count: int) -> None:
        self._tally.told += count

    async def _send_all(self) -> None:
        messages = self._task.plan.messages
        senders = []
        for place, device in enumerate(self._devices):
            numbers = iter(range(place * messages, (place + 1) * messages))
            senders += [self._send_some(device, numbers) for _ in range(_UNDER_WAY)]
        await asyncio.gather(*senders)

    async def _send_some(self, device: ChatDevice, numbers: Iterator[int]) -> None:
        common = {"to": {"room": self._task.room}, "kind": "load", "data": {"run": self._task.run}}
        for number in numbers:
            text = f"{self._tag}{number}{_FILL}"
            wish = {**common, "id": str(uuid.uuid4()), "text": text}
            self._tally.begin(number, monotonic())
            if await self._accepted(device, wish):
                self._tally.accepted(number, 0, monotonic())
            else:
                self._tally.refused += 1

    async def _accepted(self, device: ChatDevice, wish: dict[str, Any]) -> bool:
        """Whether the server has taken a message; one that came too early is sent again."""
        while True:
            try:
                answer = await device.ask("message", wish)
            except (WireError, OSError, TimeoutError):
                return False
            if answer.get("ok") or answer.get("error", {}).get("code") != "too_many":
                return bool(answer.get("ok"))
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _last_receipts(self) -> float:
        """When the last receipt has come, or the last message was accepted."""
        began = changed_at = monotonic()
        told = self._tally.told
        while self._tally.missing > 0 and monotonic() < min(began + _LAST_SECONDS, changed_at + _SILENT_SECONDS):
            await asyncio.sleep(_LOOK_SECONDS)
            if self._tally.told != told:
                told, changed_at = self._tally.told, monotonic()
        return changed_at
