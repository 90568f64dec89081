"""A TCP proxy between a node and its Redis that can cut, freeze and delay the traffic."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

from tests.support.background import BackgroundLoop
from tests.support.streams import Peer, splice, stop_listening
from tests.support.waiting import lag


class TcpProxy:
    """Listens on a free port from its creation to `end`; its methods may be called from any thread."""

    def __init__(self, background: BackgroundLoop, target_url: str) -> None:
        """Pass connections on to the server at `target_url`: `redis://host:port` or `unix://path`."""
        self._background = background
        self._target = urlsplit(target_url)
        self._links: set[asyncio.Task[None]] = set()
        self._peers: set[Peer] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._subscriptions_flowing = asyncio.Event()
        self._subscriptions_flowing.set()
        self._delay_seconds = 0.0
        self._is_refusing = False
        self._server = background.run(asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024))
        self.port = int(self._server.sockets[0].getsockname()[1])

    @property
    def redis_url(self) -> str:
        """The value of redis.url for a node behind the proxy."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections pass through the proxy."""
        return len(self._links)

    def cut(self) -> None:
        """Break every open connection; new ones are accepted."""
        self._background.loop.call_soon_threadsafe(self._cut)

    def refuse(self, is_refusing: bool = True) -> None:
        """Break every connection, and each new one at once, until `refuse(False)`."""
        self._is_refusing = is_refusing
        self.cut()

    def freeze(self) -> None:
        """Pass nothing on and lose nothing: connections stay open, and new ones are accepted."""
        self._background.loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self) -> None:
        """Pass on the held bytes, in order, and everything after them."""
        self._background.loop.call_soon_threadsafe(self._flowing.set)

    def freeze_subscriptions(self) -> None:
        """Freeze only the connections that subscribe: commands pass."""
        self._background.loop.call_soon_threadsafe(self._subscriptions_flowing.clear)

    def thaw_subscriptions(self) -> None:
        """Pass on the bytes that these connections hold."""
        self._background.loop.call_soon_threadsafe(self._subscriptions_flowing.set)

    def delay(self, seconds: float) -> None:
        """Delay each piece, in either direction, by this time."""
        self._delay_seconds = seconds

    def end(self) -> None:
        """Stop listening and break the remaining connections."""
        self._background.run(self._end())

    async def _end(self) -> None:
        await stop_listening(self._server)
        self._cut()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def _cut(self) -> None:
        for peer in self._peers:
            peer.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.create_task(self._link(Peer(reader, writer)))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _link(self, client: Peer) -> None:
        if self._is_refusing:
            client.abort()
            return
        try:
            server = await self._connect()
        except OSError:
            client.abort()
            return
        self._peers |= {client, server}
        is_subscription = False

        async def pace() -> None:
            nonlocal is_subscription
            is_subscription = is_subscription or b"SUBSCRIBE" in client.received
            await self._pace(is_subscription)

        try:
            with contextlib.suppress(OSError):
                await splice(client, server, pace)
        finally:
            client.abort()
            server.abort()
            self._peers -= {client, server}

    async def _connect(self) -> Peer:
        if self._target.scheme == "unix":
            return Peer(*await asyncio.open_unix_connection(self._target.path))
        assert self._target.hostname
        assert self._target.port
        return await Peer.connect(self._target.hostname, self._target.port)

    async def _pace(self, is_subscription: bool) -> None:
        await self._flowing.wait()
        if is_subscription:
            await self._subscriptions_flowing.wait()
        await lag(self._delay_seconds)
