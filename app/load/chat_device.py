"""One simulated user of a messenger at one device: logs in, sends, acknowledges, and hears of receipts."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from app.canary.wire import OwnPort, Wire, WireError
from app.load.chat_login import ScramLogin
from app.load.device import join

_ANSWER_SECONDS = 20.0


class ChatUserLogin(Struct, frozen=True):
    """A user of a run. Its repr has no password."""

    login: str
    password: str

    def __repr__(self) -> str:
        return f"ChatUserLogin({self.login!r})"


class _Receipt(Struct):
    """A receipt as the sender gets it."""

    ids: list[int]
    user: int
    device: str
    state: str


class ChatHearer(Struct, frozen=True):
    """The callbacks of one device: the number of a message of the run, and how many receipts are new."""

    arrived: Callable[[int], None]
    told: Callable[[int], None]
    #: The begin of the texts of the run, before the number.
    tag: str = "load "


class ChatDevice:
    """Lives from `open` until `close`, or until the server closes it."""

    def __init__(self, wire: Wire, site: str, node: str) -> None:
        self._wire = wire
        self._event = re.compile(rf"42/{re.escape(site)},(\d{{0,20}})(\[.*)", re.DOTALL)
        self._answer = re.compile(rf"43/{re.escape(site)},(\d{{1,9}})\[(.*)\]", re.DOTALL)
        self._site = site
        #: The process of the server that has the session.
        self.node = node
        self.user = 0
        self.session = ""
        #: The acknowledgements of messages that were written.
        self.receipts = 0
        #: The bytes of the last answer.
        self.answer_bytes = 0
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_ask = 0
        self._number = re.compile("$^")
        self._told: set[tuple[int, int, str]] = set()

    @classmethod
    async def connect(cls, target: OwnPort, site: str, name: str) -> "ChatDevice":
        """Connects a stranger with this deviceId. Raises WireError, OSError, TimeoutError."""
        about = {"deviceId": name, "app": {"name": "recado load"}}
        wire, node = await join(target, site, msgspec.json.encode(about).decode())
        return cls(wire, site, node)

    async def log_in(self, user: ChatUserLogin) -> None:
        """Logs in. The device is in the core when the first event of the queue may come. Raises WireError."""
        scram = ScramLogin(user.login, user.password)
        first = await self.ask("login", {"data": scram.first})
        answer = await self.ask("proof", {"data": scram.final(str(first.get("data")))})
        if not answer.get("ok"):
            raise WireError("the login was refused")
        self.user, self.session = int(answer["user"]["id"]), str(answer["session"])

    async def ask(self, event: str, data: Any) -> dict[str, Any]:
        """The answer to an event; `run` reads it. Raises WireError, TimeoutError."""
        self._last_ask += 1
        number = self._last_ask
        self._asked[number] = answer = asyncio.get_running_loop().create_future()
        packed = msgspec.json.encode([event, data]).decode()
        self._wire.write_text(f"42/{self._site},{number}{packed}")
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answered: dict[str, Any] = await answer
                return answered
        finally:
            self._asked.pop(number, None)

    async def run(self, hearer: ChatHearer) -> None:
        """Reads until the session ends. Never raises but when cancelled."""
        # The text of a message of the run, in whatever event it comes.
        self._number = re.compile(rf'"text":"{re.escape(hearer.tag)}(\d{{1,9}})\b')
        try:
            while True:
                self._hear(await self._wire.read_text(), hearer)
        except (WireError, OSError):
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(WireError("the server has closed the session"))

    def _hear(self, packet: str, hearer: ChatHearer) -> None:
        if packet == "2":
            self._wire.write_text("3")
        elif answered := self._answer.match(packet):
            waiting = self._asked.get(int(answered[1]))
            self.answer_bytes = len(answered[2])
            if waiting is not None and not waiting.done():
                waiting.set_result(msgspec.json.decode(answered[2] or "{}"))
        elif event := self._event.match(packet):
            self._hear_event(event[1], event[2], hearer)

    def _hear_event(self, ack_id: str, packed: str, hearer: ChatHearer) -> None:
        numbers = self._number.findall(packed)
        for number in numbers:
            hearer.arrived(int(number))
        if '"load_receipt"' in packed:
            self._hear_receipts(packed, hearer)
        if ack_id:
            self._wire.write_text(f"43/{self._site},{ack_id}[]")
            self.receipts += len(numbers)

    def _hear_receipts(self, packed: str, hearer: ChatHearer) -> None:
        name, data = msgspec.json.decode(packed)
        for event, *args in data if name == "_batch" else [[name, data]]:
            if event != "load_receipt":
                continue
            receipt = msgspec.convert(args[0], _Receipt)
            states = {(id, receipt.user, receipt.device) for id in receipt.ids} - self._told
            self._told |= states
            hearer.told(len(states))

    def close(self) -> None:
        """Leaves."""
        self._wire.write_text(f"41/{self._site},")
        self._wire.close()
