"""The TLS side of a server's ports: accepts connections and makes handshakes within bounds, then hands each connection
to an HTTP protocol.

A client costs a socket until it has sent a byte, and nothing of OpenSSL. Handshakes begin in turns, so that a flood of
them takes a bounded share of the event loop; the certificate may change between two of them. Knows nothing of files.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from msgspec import Struct

from app.transport.connection import CLOSE_TIMEOUT_SECONDS
from app.transport.handshake import refusal
from app.transport.handshake_row import HandshakeRow
from app.transport.refusals import (
    HANDSHAKE_FAILED,
    HANDSHAKE_TOO_SLOW,
    NO_TLS,
    NOTHING_SENT,
    TOO_MANY_HANDSHAKES,
    refused,
)

#: The time for the first byte of a connection, and for a handshake from its begin on.
FIRST_BYTE_SECONDS = 10.0
HANDSHAKE_SECONDS = 10.0
#: Connections that have not begun their handshake, and handshakes under way. Past it the oldest is closed.
MAX_BEFORE_HANDSHAKE = 8_192
MAX_HANDSHAKES = 1_024
#: The connections that one port accepts in a turn of the loop.
MAX_ACCEPTED_A_TURN = 16
#: The pause after an accept for which the process had no file, or the machine no memory.
_FULL_SECONDS = 0.5
_TLS_HANDSHAKE = b"\x16"
_MAX_PLAIN_BYTES = 1 << 16
_PLAIN = refusal(400, b"This port speaks HTTPS.", [])

logger = logging.getLogger("uvicorn.error")


class CurrentTls(Protocol):
    """The certificate in use."""

    @property
    def context(self) -> ssl.SSLContext:
        """The context of the next handshake."""

    @property
    def cost_seconds(self) -> float:
        """The time that a handshake takes the event loop."""


class DoorSettings(Struct, frozen=True):
    """The owner of an address, and the number of its clients before the end of their handshake; 0: any."""

    owner_of: Callable[[str], str]
    most_of_owner: int


class _Client:
    """A connection before the end of its handshake."""

    __slots__ = ("has_transport", "owner", "socket", "timer")

    def __init__(self, accepted: socket.socket, owner: str) -> None:
        self.socket = accepted
        self.owner = owner
        self.timer: asyncio.TimerHandle | None = None
        # Whether a transport owns the socket, and closes it.
        self.has_transport = False


class TlsDoor:
    """The TLS of all ports of one process, as uvicorn knows an asyncio.Server. Lives until `close`."""

    def __init__(
        self, tls: Callable[[], CurrentTls], settings: DoorSettings, new_protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        """`tls` is asked before each turn of handshakes."""
        self._tls = tls
        self._settings = settings
        self._new_protocol = new_protocol
        self._loop = asyncio.get_running_loop()
        self._row: HandshakeRow[_Client] = HandshakeRow(settings.most_of_owner)
        self._listening: list[socket.socket] = []
        # Both oldest first.
        self._silent: dict[_Client, None] = {}
        self._under_way: dict[asyncio.Task[None], None] = {}
        self._timer: asyncio.Handle | None = None
        self._is_closed = False
        #: Handshakes that have succeeded.
        self.made = 0

    # Called by the server

    def listen(self, sockets: Sequence[socket.socket], backlog: int) -> None:
        """Begins to accept on the bound sockets, which belong to the caller."""
        for bound in sockets:
            self._listening.append(bound)
            bound.setblocking(False)
            bound.listen(backlog)
            self._loop.add_reader(bound, self._accept, bound)

    def close(self) -> None:
        """Accepts no more, and drops the connections without a finished handshake. Idempotent."""
        self._is_closed = True
        while self._listening:
            self._loop.remove_reader(self._listening.pop())
        for client in list(self._silent):
            self._drop(client)
        for client in self._row.clear():
            client.socket.close()
        for task in self._under_way:
            task.cancel()

    async def wait_closed(self) -> None:
        """Returns when nothing of the handshakes is left."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    # Accepting

    def _accept(self, bound: socket.socket) -> None:
        for _ in range(MAX_ACCEPTED_A_TURN):
            try:
                accepted, address = bound.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                # The client has left meanwhile.
                continue
            except OSError as error:
                logger.error("no connection accepted: %s", error)
                self._loop.remove_reader(bound)
                self._loop.call_later(_FULL_SECONDS, self._accept_again, bound)
                return
            self._enter(accepted, address[0])

    def _accept_again(self, bound: socket.socket) -> None:
        if not self._is_closed:
            self._loop.add_reader(bound, self._accept, bound)

    def _enter(self, accepted: socket.socket, address: str) -> None:
        owner = self._settings.owner_of(address)
        if not self._row.enter(owner):
            refused[TOO_MANY_HANDSHAKES] += 1
            accepted.close()
            return
        client = _Client(accepted, owner)
        if len(self._silent) + self._row.waiting >= MAX_BEFORE_HANDSHAKE and not self._make_room(owner):
            self._forget(client)
            return
        accepted.setblocking(False)
        client.timer = self._loop.call_later(FIRST_BYTE_SECONDS, self._say_nothing, client)
        self._silent[client] = None
        self._loop.add_reader(accepted, self._first_byte, client)

    def _make_room(self, owner: str) -> bool:
        """For an owner without another connection, closes the one that has said nothing for the longest time, or else
        one of an owner with several."""
        refused[TOO_MANY_HANDSHAKES] += 1
        if self._row.has_several(owner):
            return False
        if self._silent:
            self._drop(next(iter(self._silent)))
            return True
        waiting = self._row.drop_one()
        if waiting is not None:
            self._forget(waiting)
        return waiting is not None

    def _say_nothing(self, client: _Client) -> None:
        refused[NOTHING_SENT] += 1
        self._drop(client)

    # The first byte

    def _first_byte(self, client: _Client) -> None:
        try:
            first = client.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            first = b""
        if first != _TLS_HANDSHAKE:
            if first:
                refused[NO_TLS] += 1
                _answer_plain(client.socket)
            self._drop(client)
            return
        self._be_heard(client)
        self._row.wait(client.owner, client)
        self._begin_soon()

    def _be_heard(self, client: _Client) -> None:
        """Waits for this client's byte no longer."""
        self._loop.remove_reader(client.socket)
        del self._silent[client]
        if client.timer is not None:
            client.timer.cancel()

    def _drop(self, client: _Client) -> None:
        self._be_heard(client)
        self._forget(client)

    def _forget(self, client: _Client) -> None:
        client.socket.close()
        self._row.leave(client.owner)

    # Handshakes

    def _begin_soon(self) -> None:
        if self._timer is None and (pause := self._row.pause_seconds(self._loop.time())) is not None:
            self._timer = self._loop.call_later(pause, self._begin) if pause else self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._timer = None
        if self._is_closed:
            return
        tls = self._tls()
        for client in self._row.begin(self._loop.time(), tls.cost_seconds):
            if len(self._under_way) >= MAX_HANDSHAKES:
                refused[TOO_MANY_HANDSHAKES] += 1
                oldest = next(iter(self._under_way))
                del self._under_way[oldest]
                oldest.cancel()
            task = self._loop.create_task(self._shake_hands(client, tls.context))
            self._under_way[task] = None
            task.add_done_callback(partial(self._end, client))
        self._begin_soon()

    def _end(self, client: _Client, task: "asyncio.Task[None]") -> None:
        self._under_way.pop(task, None)
        self._row.leave(client.owner)
        if not client.has_transport:
            # Cancelled before its first step.
            client.socket.close()

    async def _shake_hands(self, client: _Client, context: ssl.SSLContext) -> None:
        client.has_transport = True
        try:
            await self._loop.connect_accepted_socket(
                self._new_protocol,
                client.socket,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=CLOSE_TIMEOUT_SECONDS,
            )
        except ConnectionAbortedError:
            # The form of the loop's deadline.
            refused[HANDSHAKE_TOO_SLOW] += 1
        except OSError:
            # An error of TLS is one, too.
            refused[HANDSHAKE_FAILED] += 1
        except Exception:
            logger.exception("a connection failed behind its handshake")
        else:
            self.made += 1


def _answer_plain(client: socket.socket) -> None:
    """Says to a client that speaks HTTP what this port is, as far as its socket takes the words at once."""
    try:
        # A close with unread bytes resets the connection, and destroys the answer.
        client.recv(_MAX_PLAIN_BYTES)
        client.send(_PLAIN)
    except OSError:
        pass
