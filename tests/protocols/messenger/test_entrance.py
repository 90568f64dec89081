"""The time that a stranger has, and what a client hears of the bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.config.settings import Site
from app.observe.counts import Counts
from app.protocols.messenger import entrance
from app.protocols.messenger.attendance import Attendance
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.entrance import LOGIN_LATE, Entrance, tls_of
from app.transport.deadline_wheel import NOT_WAITING


class Stranger:
    """A connection that does not log in. Lives for the test."""

    def __init__(self, site: Site) -> None:
        self.caller = ChatCaller(site, None, "10.0.0.1", "d1")  # type: ignore[arg-type]
        self.on_deadline: Any = None
        self.bucket, self.deadline = NOT_WAITING, 0.0
        self.is_closed = False
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def deadline_passed(self, now: float) -> None:
        """The wheel calls this."""
        self.on_deadline(self)

    def close(self, reason: str) -> None:
        """Keep the reason."""
        self.closed.set_result(reason)


async def test_a_stranger_has_its_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not log in is disconnected after its time, and not before."""
    monkeypatch.setattr(entrance, "LOGIN_SECONDS", 0.3)
    counts = Counts([site.name])
    none: Any = None
    doors, stranger = Entrance(none, none, none, Attendance(), none, counts), Stranger(site)
    began_at = asyncio.get_running_loop().time()
    doors.await_login(stranger)  # type: ignore[arg-type]
    assert await asyncio.wait_for(stranger.closed, 30) == LOGIN_LATE
    assert asyncio.get_running_loop().time() - began_at >= 0.3
    assert counts.of(site.name).closes[LOGIN_LATE] == 1


async def test_one_that_has_gone_is_not_awaited(site: Site) -> None:
    """A connection that is over before its deadline is set has none: nobody would cancel it."""
    none: Any = None
    doors, gone = Entrance(none, none, none, Attendance(), none, Counts([site.name])), Stranger(site)
    gone.is_closed = True
    doors.await_login(gone)  # type: ignore[arg-type]
    assert gone.bucket == NOT_WAITING


def test_tls() -> None:
    """The protocol and the cipher of a connection, or none."""
    assert tls_of("TLSv1.3 TLS_AES_256_GCM_SHA384") == {"protocol": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384"}
    assert tls_of(None) is None
