"""An Engine.IO client that sends anything, right or wrong, over polling requests and WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, cast

import aiohttp

DEADLINE_SECONDS = 30.0


class Answer:
    """One HTTP response, read whole."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.status = status
        self.body = body
        self.headers = headers

    @property
    def error(self) -> dict[str, Any]:
        """The body of a refusal."""
        return cast(dict[str, Any], json.loads(self.body))


class Socket:
    """A WebSocket; closed with its client."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self.websocket = websocket

    async def send(self, message: str | bytes) -> None:
        """Send one message."""
        if isinstance(message, str):
            await self.websocket.send_str(message)
        else:
            await self.websocket.send_bytes(message)

    async def receive(self) -> str | bytes:
        """Return the next message; AssertionError when the socket closes instead."""
        message = await asyncio.wait_for(self.websocket.receive(), DEADLINE_SECONDS)
        is_data = message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)
        assert is_data, f"closed: {self.websocket.close_code}"
        return cast(str | bytes, message.data)

    async def receive_but_pings(self) -> str | bytes:
        """Return the next message that is no ping of version 4."""
        message = await self.receive()
        while message == "2":
            message = await self.receive()
        return message

    async def closed(self) -> int | None:
        """Wait for the close and return its code; messages before it are dropped."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for _message in self.websocket:
                pass
        return self.websocket.close_code


class EngineClient:
    """Talks to one path of one server in one protocol version; used as a context manager."""

    def __init__(self, port: int, version: int = 4, path: str = "/engine.io/") -> None:
        self.version = version
        self.url = f"http://127.0.0.1:{port}{path}"
        self._http = aiohttp.ClientSession()

    async def __aenter__(self) -> EngineClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def request(self, method: str, query: str, **options: Any) -> Answer:
        """Send a request with exactly this query."""
        async with self._http.request(method, f"{self.url}?{query}", **options) as response:
            body = await asyncio.wait_for(response.read(), DEADLINE_SECONDS)
            return Answer(response.status, body, {name.lower(): value for name, value in response.headers.items()})

    async def open(self, extra: str = "", *, reads_binary: bool = False) -> str:
        """Open a polling session and return its sid. Version 3 answers in text, unless `reads_binary`."""
        if self.version == 3 and not reads_binary:
            extra += "&b64=1"
        answer = await self.request("GET", f"EIO={self.version}&transport=polling{extra}")
        assert answer.status == 200, answer.body
        text = answer.body.decode("latin-1")
        return cast(str, json.loads(text[text.index("{") :])["sid"])

    async def poll(self, sid: str, extra: str = "") -> Answer:
        """Fetch the waiting packets."""
        return await self.request("GET", f"EIO={self.version}&transport=polling&sid={sid}{extra}")

    async def post(self, sid: str, body: bytes | str, extra: str = "", **options: Any) -> Answer:
        """Bring a payload."""
        query = f"EIO={self.version}&transport=polling&sid={sid}{extra}"
        return await self.request("POST", query, data=body, **options)

    @contextlib.asynccontextmanager
    async def socket(self, query: str | None = None, **options: Any) -> AsyncIterator[Socket]:
        """Open a WebSocket for the length of a `with`; aiohttp.WSServerHandshakeError when refused."""
        query = f"EIO={self.version}&transport=websocket" if query is None else query
        async with self._http.ws_connect(f"{self.url}?{query}", **options) as websocket:
            yield Socket(websocket)

    async def refusal_of_socket(self, query: str, **options: Any) -> int:
        """Return the status with which a WebSocket is refused."""
        try:
            async with self.socket(query, **options):
                raise AssertionError("expected a refusal")
        except aiohttp.WSServerHandshakeError as error:
            return error.status

    def payload(self, *packets: str) -> str:
        """Join text packets as this version does."""
        if self.version == 4:
            return "\x1e".join(packets)
        return "".join(f"{len(packet)}:{packet}" for packet in packets)

    def upgrade(self, sid: str) -> contextlib.AbstractAsyncContextManager[Socket]:
        """Return a WebSocket for the session, not yet probed."""
        return self.socket(f"EIO={self.version}&transport=websocket&sid={sid}")
