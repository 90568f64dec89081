"""A JWKS of an issuer that rotates its keys, hangs, fails, or sends too much, as the test says."""

from __future__ import annotations

import asyncio

from aiohttp import web

from tests.support.background import BackgroundLoop


class JwksServer:
    """The server, on the background loop. The code that makes it calls `close`."""

    def __init__(self, background: BackgroundLoop, body: bytes) -> None:
        """Start listening on a free port."""
        self.body = body
        self.status = 200
        self.hangs = False
        self.requests = 0
        self._background = background
        self._gate = asyncio.Event()
        application = web.Application()
        application.router.add_get("/jwks", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        self.url = background.run(self._start())

    def close(self) -> None:
        """Stop listening, and end what hangs."""
        self._background.loop.call_soon_threadsafe(self._gate.set)
        self._background.run(self._runner.cleanup())

    async def _start(self) -> str:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/jwks"

    async def _handle(self, request: web.Request) -> web.Response:
        self.requests += 1
        if self.hangs:
            await self._gate.wait()
        return web.Response(body=self.body, status=self.status, content_type="application/json")
