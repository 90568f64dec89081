"""A door before a server that fails as a test says: it answers errors, cuts, hangs or floods, and else passes on."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
from aiohttp import web

from tests.support.background import BackgroundLoop
from tests.support.waiting import lag

_CHUNK = b"x" * 65_536


@dataclass(frozen=True)
class Fault:
    """The fate of one request.

    `answer`: this status, body and headers. `cut`: no answer. `lose`: passed on, and the answer is cut. `hang`: nothing
    until the caller leaves. `flood`: a body without end. `drip`: a byte a moment, without end.
    """

    kind: Literal["answer", "cut", "lose", "hang", "flood", "drip"]
    status: int = 503
    body: str = '{"ok": false, "error": "not now", "code": "store_unavailable"}'
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Passage:
    """One request as it came to the door; header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        """The body as a value."""
        return json.loads(self.body)


class Way:
    """One path of the door, with its faults in order. Lives as long as the test that uses it."""

    def __init__(self, url: str, faults: tuple[Fault, ...]) -> None:
        """The faults meet one request each; every later request is passed on."""
        self.url = url
        self.faults = list(faults)
        self.passages: list[Passage] = []
        #: The statuses of the answers that the server behind the door gave.
        self.statuses: list[int] = []


class Door:
    """The listener, on the background loop. The code that makes it calls `close`."""

    def __init__(self, background: BackgroundLoop, target: str) -> None:
        """Listen on a free port and pass on to `target`."""
        self._background = background
        self._target = target
        self._ways: dict[str, Way] = {}
        self._numbers = itertools.count(1)
        self._http = httpx.AsyncClient(timeout=60)
        application = web.Application(client_max_size=1 << 26)
        application.router.add_route("*", "/{way}/{rest:.*}", self._handle)
        # A caller that leaves ends its handler.
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        self.url = background.run(self._start())

    def open(self, *faults: Fault) -> Way:
        """A new path with these faults."""
        name = f"way{next(self._numbers)}"
        self._ways[name] = Way(f"{self.url}/{name}", faults)
        return self._ways[name]

    def close(self) -> None:
        """Stop listening."""
        self._background.run(self._end())

    async def _start(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0]
        return f"http://{host}:{port}"

    async def _end(self) -> None:
        await self._runner.cleanup()
        await self._http.aclose()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        way = self._ways[request.match_info["way"]]
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = "/" + request.match_info["rest"]
        body = await request.read()
        passage = Passage(request.method, path, dict(request.query), headers, body, time.monotonic())
        way.passages.append(passage)
        fault = way.faults.pop(0) if way.faults else None
        if fault and fault.kind != "lose":
            return await _fail(request, fault)
        answer = await self._pass_on(passage)
        way.statuses.append(answer.status_code)
        if fault:
            return _cut(request)
        kept = {name: value for name, value in answer.headers.items() if name not in ("content-length", "date")}
        return web.Response(status=answer.status_code, body=answer.content, headers=kept)

    async def _pass_on(self, passage: Passage) -> httpx.Response:
        headers = {name: value for name, value in passage.headers.items() if name not in ("host", "content-length")}
        url = self._target + passage.path
        return await self._http.request(
            passage.method, url, params=dict(passage.query), headers=headers, content=passage.body
        )


async def _fail(request: web.Request, fault: Fault) -> web.StreamResponse:
    if fault.kind == "answer":
        return web.Response(status=fault.status, text=fault.body, headers=dict(fault.headers))
    if fault.kind == "cut":
        return _cut(request)
    if fault.kind == "hang":
        await asyncio.Event().wait()
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    await answer.prepare(request)
    # The caller leaves, which cancels this handler, or the write fails.
    with contextlib.suppress(ConnectionError):
        while True:
            await answer.write(_CHUNK if fault.kind == "flood" else b" ")
            await lag(0.0 if fault.kind == "flood" else 0.05)
    return answer


def _cut(request: web.Request) -> web.StreamResponse:
    assert request.transport
    request.transport.abort()
    return web.Response()
