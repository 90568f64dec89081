"""HTTP and WebSocket as the canary speaks them: the smallest real client. Every read has a bound.

Its peer is the server of this port. It understands what that server writes, and breaks off at anything else.
"""

import asyncio
import base64
import os
import ssl

from msgspec import Struct

#: The bytes of an answer's body, or of a frame.
MAX_ANSWER_BYTES = 262_144
#: The bytes of a head; asyncio's reader breaks off at a longer one.
MAX_ANSWER_HEAD_BYTES = 16_384
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_SHORT, _MEDIUM = 126, 127


class WireError(Exception):
    """The peer has closed, refused, or written something unexpected. The text is for the log."""


class OwnPort(Struct, frozen=True):
    """The port of this server, as its own machine reaches it."""

    host: str
    port: int
    #: With TLS; the certificate is for other names.
    tls: ssl.SSLContext | None = None

    @property
    def authority(self) -> str:
        """The value of the header Host."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Head(Struct, frozen=True):
    """The head of an answer."""

    status: int
    headers: dict[str, str]


class Wire:
    """One connection to the port. Lives until `close`."""

    def __init__(self, target: OwnPort, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._target = target
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, target: OwnPort) -> "Wire":
        """Connects. Raises OSError."""
        reader, writer = await asyncio.open_connection(
            target.host, target.port, ssl=target.tls, limit=MAX_ANSWER_HEAD_BYTES
        )
        return cls(target, reader, writer)

    def close(self) -> None:
        """Ends the connection."""
        self._writer.close()

    async def request(self, line: str, headers: dict[str, str], body: bytes = b"") -> Head:
        """Writes a request and reads the head of its answer. Raises WireError, OSError."""
        fields = {"Host": self._target.authority, "User-Agent": "recado-canary", **headers}
        if body:
            fields["Content-Length"] = str(len(body))
        head = "\r\n".join([f"{line} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())])
        self._writer.write(head.encode("ascii") + b"\r\n\r\n" + body)
        try:
            return _head_of(await self._reader.readuntil(b"\r\n\r\n"))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            raise WireError("no answer") from None

    async def body(self, head: Head) -> bytes:
        """The body behind a head. Raises WireError, OSError."""
        length = head.headers.get("content-length", "")
        # Nine digits are more than any body that is read.
        if not (length.isascii() and length.isdigit() and len(length) < 10 and int(length) <= MAX_ANSWER_BYTES):
            raise WireError("an answer of unexpected length")
        return await self._exactly(int(length))

    async def upgrade(self, path: str) -> None:
        """Makes a WebSocket of the connection. Raises WireError, OSError."""
        key = base64.b64encode(os.urandom(16)).decode()
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        head = await self.request(f"GET {path}", {**headers, "Sec-WebSocket-Key": key})
        if head.status != 101:
            raise WireError(f"the upgrade was answered {head.status}")

    async def read_text(self) -> str:
        """The next text. Answers pings itself. Raises WireError, OSError."""
        while True:
            first, second = await self._exactly(2)
            payload = await self._exactly(await self._length(second & 0x7F))
            match first & 0x0F:
                case 1 if first & 0x80:
                    return payload.decode("utf-8", "replace")
                case 9:
                    self._write(_PONG, payload)
                case 10:
                    pass
                case _:
                    raise WireError("the server has closed the session")

    def write_text(self, text: str) -> None:
        """Writes a text."""
        self._write(_TEXT, text.encode())

    def write_close(self) -> None:
        """Writes the frame that ends the WebSocket."""
        self._write(_CLOSE, b"\x03\xe8")

    def _write(self, opcode: int, payload: bytes) -> None:
        # The texts of a canary are short.
        size = len(payload)
        length = bytes((0x80 | size,)) if size < _SHORT else bytes((0x80 | _SHORT,)) + size.to_bytes(2, "big")
        mask = os.urandom(4)
        key = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
        self._writer.write(bytes((0x80 | opcode,)) + length + mask + masked)

    async def _length(self, short: int) -> int:
        if short == _SHORT:
            return int.from_bytes(await self._exactly(2), "big")
        return int.from_bytes(await self._exactly(8), "big") if short == _MEDIUM else short

    async def _exactly(self, size: int) -> bytes:
        if size > MAX_ANSWER_BYTES:
            raise WireError("an answer of unexpected length")
        try:
            return await self._reader.readexactly(size)
        except asyncio.IncompleteReadError:
            raise WireError("the server has closed the connection") from None


def _head_of(raw: bytes) -> Head:
    line, *fields = raw.decode("latin-1").split("\r\n")
    status = line.split(" ", 2)[1:2]
    if not (status and status[0].isascii() and status[0].isdigit() and len(status[0]) == 3):
        raise WireError("an answer that is no HTTP")
    pairs = (field.partition(":") for field in fields if field)
    return Head(int(status[0]), {name.strip().lower(): value.strip() for name, _, value in pairs})
