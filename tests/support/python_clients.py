"""python-socketio's AsyncClient behind the same interface as the Node clients."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

import socketio

from tests.support.background import BackgroundLoop
from tests.support.clients import Client, ConnectCall, Record


class PythonClients:
    """The clients on the background loop. Lives for the test session; `forget` ends each client."""

    def __init__(self, background: BackgroundLoop) -> None:
        """Start without clients."""
        self._background = background
        self._sessions: dict[str, _Session] = {}
        self._numbers = itertools.count()

    def connect(self, call: ConnectCall) -> Client:
        """Begin to connect; does not wait."""
        name = f"python-{next(self._numbers)}"
        client = Client(name, call.kind, self)
        self._background.run(self._open(name, client, call))
        return client

    def ack(self, name: str, index: int, args: Sequence[Any]) -> None:
        """Let the handler of an event return, which is how this library acknowledges."""
        waiting = self._sessions[name].waiting[index]
        self._background.loop.call_soon_threadsafe(waiting.set_result, tuple(args) or None)

    def ask(self, name: str, event: str, args: Sequence[Any], number: int) -> None:
        """Send an event and record the arguments of its ack."""
        self._background.run(self._sessions[name].ask(event, args, number))

    def disconnect(self, name: str) -> None:
        """Leave by the library's own method."""
        self._background.run(self._sessions[name].close())

    def has_lost(self, name: str) -> bool:
        """Whether the transport has ended. (Before the namespace is open the library tells nobody.)"""
        return self._sessions[name].has_lost

    def forget(self, name: str) -> None:
        """Close the client's connection and drop the client."""
        self._background.run(self._sessions.pop(name).close())

    async def _open(self, name: str, client: Client, call: ConnectCall) -> None:
        session = self._sessions[name] = _Session(client, call)
        session.start()


class _Session:
    """One AsyncClient and the handlers that wait for their ack. Created and used on the background loop only."""

    def __init__(self, client: Client, call: ConnectCall) -> None:
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self._client = client
        self._call = call
        self._socket: Any = socketio.AsyncClient(reconnection=False)  # type: ignore[no-untyped-call]
        self._opening: asyncio.Task[None] | None = None
        self._has_left = False
        for event, handler in self._handlers().items():
            self._socket.on(event, handler, namespace=call.namespace)  # type: ignore[no-untyped-call]

    @property
    def has_lost(self) -> bool:
        return self._opening is not None and self._opening.done() and self._socket.eio.state == "disconnected"

    def start(self) -> None:
        self._opening = asyncio.create_task(self._open())

    async def ask(self, event: str, args: Sequence[Any], number: int) -> None:
        def answered(*answer: Any) -> None:
            self._record("answer", number=number, answer=list(answer))

        await self._socket.emit(event, tuple(args), namespace=self._call.namespace, callback=answered)

    async def close(self) -> None:
        self._has_left = True
        if self._opening:
            await asyncio.wait([self._opening], timeout=5)
        if self._socket.eio.state == "connected":
            # Over polling, engineio's `disconnect` never sends its close packet while another POST is in flight.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._socket.eio.queue.join(), 2)
        await self._socket.disconnect()
        # `disconnect` of a refused client leaves the transport and its HTTP session open.
        await self._socket.eio.disconnect()
        # Cancel the handlers only now: the library treats a cancelled handler as one that returned, and acknowledges.
        for future in self.waiting.values():
            future.cancel()
        self._record("closed")

    async def _open(self) -> None:
        query = f"?{urlencode(self._call.query, quote_via=quote)}" if self._call.query else ""
        try:
            await self._socket.connect(
                self._call.base_url + query,
                namespaces=[self._call.namespace],
                transports=list(self._call.kind.transports),
                auth=dict(self._call.auth) if self._call.auth is not None else None,
                wait=False,
            )
        except socketio.exceptions.ConnectionError as error:
            self._record("transport_error", text=str(error))

    def _handlers(self) -> dict[str, Any]:
        async def on_connect() -> None:
            engine = self._socket.eio
            sid = self._socket.get_sid(self._call.namespace)
            self._record("connect", sid=sid, engine=engine.sid, transport=engine.transport())

        async def on_refused(data: Any = None) -> None:
            self._record("refused", text=data["message"] if isinstance(data, dict) else data)

        async def on_disconnect(reason: str) -> None:
            self._record("disconnect", reason=reason)

        return {"connect": on_connect, "connect_error": on_refused, "disconnect": on_disconnect, "*": self._receive}

    async def _receive(self, event: str, *args: Any) -> Any:
        index = len(self.waiting)
        waiting = self.waiting[index] = asyncio.get_running_loop().create_future()
        if self._has_left:
            # While it disconnects the library still dispatches events, but sends no acks for them.
            return await waiting
        # The library does not tell a handler whether an ack is wanted; the tests with Node clients check that.
        self._record("event", event=event, args=list(args), index=index, wants_ack=True)
        # Without an await in between, a recorded event is acknowledged in the same step of the loop.
        return None if self._call.ack.acknowledges(event) else await waiting

    def _record(self, kind: str, **details: Any) -> None:
        self._client.records.add(Record(kind, details))
