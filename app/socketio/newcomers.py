"""Sessions in no site: what each may do, and how many of them, and of their connects, an address may have.

They need no credentials, so whatever they hold is small and does not last. Knows no sites: an application says by
`holds_session` whether a namespace counts.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import structlog

from app.core.network import network_of
from app.socketio.allowance import Allowance
from app.socketio.engine_packet import PacketFlood
from app.socketio.engine_session import EngineSession
from app.transport.refusals import TOO_MANY_CONNECTS

MAX_BYTES = 1 << 16
"""The largest message of a session in no site, and the bytes that may wait for it. A CONNECT holds one token."""
SESSIONS_OF_ADDRESS = 1_000
"""The default of `joining_per_address`."""
CONNECTS_FOR_A_SESSION = 10
"""The connects under way of an address for each of its sessions in no site: by default half of the row in front of one
authUrl, and more than an address has after a restart."""
MAX_CONNECTS_OF_SESSION = 32

_log = structlog.get_logger(__name__)


class Newcomers:
    """The counts of one server; lives as long as that. An unknown address ("") counts nowhere."""

    def __init__(self, max_sessions: int = SESSIONS_OF_ADDRESS) -> None:
        """Take the sessions of one address; 0: any number of them, and of their connects."""
        self._max_sessions = max_sessions
        self._max_connects = max_sessions * CONNECTS_FOR_A_SESSION
        self._sessions: Counter[str] = Counter()
        self._connects: Counter[str] = Counter()
        self._told: str | None = None

    def may_open(self, address: str) -> bool:
        """Whether a client of this address may open another session."""
        network = network_of(address)
        if not address or not self._max_sessions or self._sessions[network] < self._max_sessions:
            return True
        if network != self._told:
            self._told = network
            _log.warning(
                "sessions refused",
                address=network,
                reason="too many have joined no site (joining_per_address); a proxy belongs into trusted_proxies",
            )
        return False

    def count_session(self, address: str, by: int) -> None:
        """Count a session that is in no site and asks for none, or count it no longer."""
        _add(self._sessions, address, by)

    def begin_connect(self, address: str) -> None:
        """Count a connect; raises PacketFlood when the address has too many under way."""
        if address and self._max_connects and self._connects[network_of(address)] >= self._max_connects:
            raise PacketFlood(TOO_MANY_CONNECTS)
        _add(self._connects, address, 1)

    def end_connect(self, address: str) -> None:
        """Count a connect no longer."""
        _add(self._connects, address, -1)


class NewcomerListener(Protocol):
    """The session's own listener, behind the gate."""

    def session_started(self) -> None:
        """See SessionListener."""

    def message_received(self, packet: bytes) -> None:
        """See SessionListener."""

    def binary_received(self, data: bytes) -> None:
        """See SessionListener."""

    def sender_changed(self) -> None:
        """See SessionListener."""

    def session_closed(self, reason: str) -> None:
        """See SessionListener."""


class JoinGate:
    """Stands before the listener of a session in no site, and counts its packets; taken away when it joins one.

    So a session in a site pays nothing for it.
    """

    __slots__ = ("_allowance", "listener")

    def __init__(self, engine: EngineSession, listener: NewcomerListener) -> None:
        """Bound a session; `listener` is the one behind the gate."""
        self._allowance = engine.allowance = Allowance()
        #: The listener behind the gate.
        self.listener = listener

    def session_started(self) -> None:
        """Pass the start on."""
        self.listener.session_started()

    def message_received(self, packet: bytes) -> None:
        """Pass a message on, if there are not too many."""
        self._allowance.spend()
        self.listener.message_received(packet)

    def binary_received(self, data: bytes) -> None:
        """Pass a binary message on, if there are not too many."""
        self._allowance.spend()
        self.listener.binary_received(data)

    def sender_changed(self) -> None:
        """Pass it on."""
        self.listener.sender_changed()

    def session_closed(self, reason: str) -> None:
        """Pass the end on."""
        self.listener.session_closed(reason)


def check_connects(under_way: int) -> None:
    """Raise PacketFlood when a session asks for too many namespaces at once."""
    if under_way >= MAX_CONNECTS_OF_SESSION:
        raise PacketFlood(TOO_MANY_CONNECTS)


def _add(counts: Counter[str], address: str, by: int) -> None:
    if not address:
        return
    network = network_of(address)
    counts[network] += by
    if not counts[network]:
        del counts[network]
