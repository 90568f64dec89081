"""The way from a worker to its supervisor: a unix socket in their folder, one line of JSON each way.

Only processes of the same user reach the folder. The supervisor decides; this module carries.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Struct

from app.errors import RecadoError
from app.store.node_calls import CallRefused

MAX_LINE_BYTES = 10_000
_ANSWER_SECONDS = 0.8


class Wish(Struct, frozen=True):
    """One wish to a supervisor."""

    #: `restart` a worker, `stop` it for good, `start` it again; `roll`: restart all, one after the other; `resize`:
    #: change their number.
    verb: Literal["restart", "stop", "start", "roll", "resize"]
    #: The worker, or the number of workers.
    number: int = 0
    #: Without the time for connections to leave.
    at_once: bool = False


class WishRefused(RecadoError):
    """The supervisor has refused"""


class _Said(Struct, frozen=True):
    """The supervisor's answer."""

    text: str = ""
    refusal: str | None = None


class SupervisorDoor:
    """The supervisor's end. Lives as long as the supervisor: `start` listens, `close` ends it."""

    def __init__(self, directory: str, obey: Callable[[Wish], str]) -> None:
        """`obey` answers at once with what will happen, or raises WishRefused."""
        self._path = _path_of(directory)
        self._obey = obey
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens from now on."""
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE_BYTES)

    async def close(self) -> None:
        """Listens no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                writer.write(msgspec.json.encode(self._answer(await reader.readline())) + b"\n")
                await writer.drain()
        writer.close()

    def _answer(self, line: bytes) -> _Said:
        try:
            return _Said(self._obey(msgspec.json.decode(line, type=Wish)))
        except (WishRefused, msgspec.MsgspecError) as error:
            return _Said(refusal=str(error))


async def ask_supervisor(directory: str, wish: Wish) -> str:
    """Asks the supervisor, and answers with its words of what will happen. Raises CallRefused."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(_path_of(directory), limit=MAX_LINE_BYTES)
            try:
                writer.write(msgspec.json.encode(wish) + b"\n")
                said = msgspec.json.decode(await reader.readline(), type=_Said)
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError, msgspec.MsgspecError) as error:
        raise CallRefused(f"the supervisor does not answer ({type(error).__name__})") from None
    if said.refusal is not None:
        raise CallRefused(said.refusal)
    return said.text


def _path_of(directory: str) -> str:
    return f"{directory}/supervisor.sock"
