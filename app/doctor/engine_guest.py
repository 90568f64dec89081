"""A session of Engine.IO as the doctor opens it: in no site, without a credential, and closed behind itself."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from app.doctor.http_wire import ProbeAnswer, ProbeError, fetch
from app.doctor.target import ProbeTarget

POLLING = "/socket.io/?EIO=4&transport=polling"
WEBSOCKET = "/socket.io/?EIO=4&transport=websocket"
#: The ids of Recado's sessions begin with the name of their node.
_SID = re.compile(r"([0-9a-f]{1,32})\.[\w-]{8,64}", re.ASCII)
#: Up to a day.
_Milliseconds = Annotated[int, Meta(ge=0, le=86_400_000)]
#: The close of a session is a courtesy: a server that does not answer it ends it after its ping time-out.
_CLOSE_SECONDS = 2.0
_TEXT = {"Content-Type": "text/plain;charset=UTF-8"}


class Greeting(Struct, frozen=True, rename="camel"):
    """The first packet of a session."""

    sid: str
    ping_interval: _Milliseconds
    ping_timeout: _Milliseconds

    @property
    def node(self) -> str:
        """The name of the node; "" when this is no session of Recado."""
        found = _SID.fullmatch(self.sid)
        return found[1] if found else ""


def greeting_in(packet: bytes) -> Greeting | None:
    """The greeting that a packet holds; None for anything else."""
    if not packet.startswith(b"0{"):
        return None
    try:
        return msgspec.json.decode(packet[1:], type=Greeting)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def refusal_code(page: ProbeAnswer) -> int | None:
    """The code of Engine.IO with which a request is refused; None for another answer."""
    try:
        held: Any = msgspec.json.decode(page.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    code = held.get("code") if isinstance(held, dict) else None
    return code if isinstance(code, int) else None


class EngineGuest:
    """One polling session. Lives in the `with` of `visiting`."""

    def __init__(self, target: ProbeTarget, greeting: Greeting, opening: ProbeAnswer) -> None:
        self.greeting = greeting
        #: The answer that opened it.
        self.opening = opening
        self._door = target
        self._query = f"{POLLING}&sid={greeting.sid}"

    async def post(self, packet: str, headers: Mapping[str, str] | None = None) -> ProbeAnswer:
        """Sends a packet, over a connection of its own. Raises ProbeError, OSError."""
        return await fetch(
            self._door, f"POST {self._query}", {**_TEXT, **(headers or {})}, packet.encode("utf-8", "replace")
        )

    async def poll(self, headers: Mapping[str, str] | None = None) -> ProbeAnswer:
        """Waits for packets. Raises ProbeError, OSError."""
        return await fetch(self._door, f"GET {self._query}", headers)


async def open_session(
    target: ProbeTarget, headers: Mapping[str, str] | None = None
) -> tuple[Greeting | None, ProbeAnswer]:
    """Opens a session: its greeting, or None and the answer that came instead. Raises ProbeError, OSError."""
    page = await fetch(target, f"GET {POLLING}", headers)
    return greeting_in(page.body) if page.status == 200 else None, page


@asynccontextmanager
async def visiting(target: ProbeTarget, headers: Mapping[str, str] | None = None) -> AsyncIterator[EngineGuest]:
    """A session that is closed at the end. Raises ProbeError, OSError."""
    greeting, page = await open_session(target, headers)
    # The id goes into the next request line.
    if greeting is None or not greeting.node:
        raise ProbeError(f"the request for a session was answered {page.status}")
    guest = EngineGuest(target, greeting, page)
    try:
        yield guest
    finally:
        # With a deadline of its own: that of the caller may be over.
        with suppress(ProbeError, OSError, TimeoutError):
            async with asyncio.timeout(min(_CLOSE_SECONDS, target.answer_seconds)):
                await guest.post("1", headers)
