"""One simulated device: a Socket.IO session over WebSocket that acknowledges what it gets."""

import asyncio
import re
from collections.abc import Callable

import msgspec

from app.canary.site import ROOM_PREFIX
from app.canary.wire import OwnPort, Wire, WireError
from app.config.settings import CANARY_SITE

EVENT = "load"
_PATH = "/socket.io/?EIO=4&transport=websocket"
_SID = re.compile(r'^0\{"sid":"([0-9a-f]{1,32})\.')
_PACKET = re.compile(rf"42/{re.escape(CANARY_SITE)},(\d{{1,20}})(\[.*)", re.DOTALL)
_MESSAGE = re.compile(rf'\["{EVENT}",(\d{{1,9}})\]')
_CONNECT_SECONDS = 20.0


async def join(target: OwnPort, namespace: str, credentials: str) -> tuple[Wire, str]:
    """Connects a client to a site with these credentials (JSON); answers its connection and the process of the server
    that has the session. Raises WireError, OSError, TimeoutError."""
    async with asyncio.timeout(_CONNECT_SECONDS):
        wire = await Wire.open(target)
        try:
            await wire.upgrade(_PATH)
            hello = _SID.match(await wire.read_text())
            if hello is None:
                raise WireError("no Engine.IO session")
            wire.write_text(f"40/{namespace},{credentials}")
            while not (packet := await wire.read_text()).startswith(f"40/{namespace},"):
                if packet.startswith(f"44/{namespace},"):
                    raise WireError("the connect was refused")
        except BaseException:
            wire.close()
            raise
    return wire, hello[1]


class LoadDevice:
    """Lives from `open` until `close`, or until the server closes it."""

    def __init__(self, wire: Wire, node: str) -> None:
        self._wire = wire
        #: The process of the server that has the session.
        self.node = node
        #: The acknowledgements that were written.
        self.receipts = 0

    @classmethod
    async def open(cls, target: OwnPort, key: str, name: str) -> "LoadDevice":
        """Connects a device of the hidden site. Raises WireError, OSError, TimeoutError."""
        credentials = msgspec.json.encode({"token": key, "meta": name, "deviceId": name}).decode()
        return cls(*await join(target, CANARY_SITE, credentials))

    async def run(self, arrived: Callable[[int], None]) -> None:
        """Reads until the session ends, and tells the number of each message. Never raises but when cancelled."""
        try:
            while True:
                packet = await self._wire.read_text()
                if packet == "2":
                    self._wire.write_text("3")
                elif found := _PACKET.match(packet):
                    for message in _MESSAGE.finditer(found[2]):
                        arrived(int(message[1]))
                    self._wire.write_text(f"43/{CANARY_SITE},{found[1]}[]")
                    self.receipts += 1
        except (WireError, OSError):
            pass

    def close(self) -> None:
        """Leaves."""
        self._wire.write_text(f"41/{CANARY_SITE},")
        self._wire.close()


def room_of(name: str) -> str:
    """The user room of a device, which it alone is in."""
    return ROOM_PREFIX + name
