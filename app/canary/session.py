"""The canary's client: one Socket.IO session over WebSocket, which acknowledges what it gets."""

import asyncio
import re

import msgspec

from app.canary.site import ROOM_PREFIX
from app.canary.wire import OwnPort, Wire, WireError
from app.config.settings import CANARY_SITE

_PATH = "/socket.io/?EIO=4&transport=websocket"
_SID = re.compile(r'^0\{"sid":"([^"]{1,128})"')
#: An event that asks for an ack.
_EVENT = re.compile(rf"42/{re.escape(CANARY_SITE)},(\d{{1,20}})(\[.*)", re.DOTALL)
_CONNECTED = f"40/{CANARY_SITE},"
_REFUSED = f"44/{CANARY_SITE},"
_CONNECT_SECONDS = 5.0
#: Connections for a session of this very process: of four workers, one of 16 attempts meets it in 99 of 100 cases.
_ATTEMPTS = 16
#: The messages whose numbers are kept: one is under way at a time.
_KEPT_NUMBERS = 100


class CanarySession:
    """One session of a node's device. Lives from `open` until it is closed, or the server closes it."""

    #: Whether it acknowledges. Tests turn it off.
    has_acks = True

    def __init__(self, wire: Wire, sid: str) -> None:
        self._wire = wire
        #: The id of the Engine.IO session, which begins with the name of the node that has it.
        self.sid = sid
        self.is_open = True
        #: The numbers of the messages that have arrived.
        self._arrived: dict[int, None] = {}

    @classmethod
    async def open(cls, target: OwnPort, own_sids: str, node: str, key: str) -> "CanarySession":
        """Connects the device of this node. `own_sids` is the beginning of the session ids of this process: of several
        workers another one may accept the connection. Raises WireError, OSError, TimeoutError."""
        async with asyncio.timeout(_CONNECT_SECONDS):
            wire, sid = await _open_engine(target, own_sids)
            try:
                credentials = {"token": key, "meta": node, "deviceId": node}
                wire.write_text(_CONNECTED + msgspec.json.encode(credentials).decode())
                await _confirmed(wire)
            except BaseException:
                wire.close()
                raise
        return cls(wire, sid)

    async def run(self) -> None:
        """Answers pings and messages until the session ends. Never raises but when it is cancelled."""
        try:
            while True:
                self._answer(await self._wire.read_text())
        except (WireError, OSError):
            pass
        finally:
            self.close()

    def has(self, number: int) -> bool:
        """Whether the message with this number has arrived."""
        return number in self._arrived

    def close(self) -> None:
        """Leaves. Idempotent."""
        if self.is_open:
            self.is_open = False
            self._wire.write_text(f"41/{CANARY_SITE},")
            self._wire.close()

    def _answer(self, packet: str) -> None:
        if packet == "2":
            self._wire.write_text("3")
        elif event := _EVENT.match(packet):
            self._note(event[2])
            if self.has_acks:
                self._wire.write_text(f"43/{CANARY_SITE},{event[1]}[]")
        elif packet.startswith(f"41/{CANARY_SITE}"):
            raise WireError("the server has ended the connection")

    def _note(self, event: str) -> None:
        """Notes the numbers of a message or of a batch of them."""
        for found in re.finditer(r'\["canary",(\d{1,15})\]', event):
            self._arrived[int(found[1])] = None
        while len(self._arrived) > _KEPT_NUMBERS:
            del self._arrived[next(iter(self._arrived))]


async def _open_engine(target: OwnPort, own_sids: str) -> tuple[Wire, str]:
    """An Engine.IO session and its id: of this process, unless the kernel gives every attempt to another one."""
    left = _ATTEMPTS
    while True:
        wire, left = await Wire.open(target), left - 1
        try:
            await wire.upgrade(_PATH)
            hello = _SID.match(await wire.read_text())
            if hello is None:
                raise WireError("no Engine.IO session")
        except BaseException:
            wire.close()
            raise
        if hello[1].startswith(own_sids) or not left:
            return wire, hello[1]
        wire.close()


async def _confirmed(wire: Wire) -> None:
    """Waits until the server has admitted the client."""
    while not (packet := await wire.read_text()).startswith(_CONNECTED):
        if packet.startswith(_REFUSED):
            raise WireError("the connect was refused")
        if packet == "2":
            wire.write_text("3")


def room_of(node: str) -> str:
    """The user room of a node's canary."""
    return ROOM_PREFIX + node
