"""The counts of sessions and connects that an address has before it joins a site, and their rate of packets."""

from __future__ import annotations

import pytest

from app.socketio import allowance
from app.socketio.allowance import PACKETS_A_SECOND, PACKETS_AT_ONCE, Allowance
from app.socketio.engine_packet import PacketFlood
from app.socketio.newcomers import CONNECTS_FOR_A_SESSION, Newcomers
from app.transport.refusals import PACKETS_TOO_FAST

ADDRESSES = ("192.0.2.1", "192.0.2.1", "2001:db8::1", "2001:db8::2", "", "", "")


def test_addresses_are_counted_apart() -> None:
    """Each address has its own bound, a /64 of IPv6 is one address, and an unknown address has no bound."""
    newcomers = Newcomers(2)
    for address in ADDRESSES:
        newcomers.count_session(address, 1)
    assert not newcomers.may_open("192.0.2.1")
    assert not newcomers.may_open("2001:db8::3")
    assert newcomers.may_open("192.0.2.2")
    assert newcomers.may_open("")
    for address in ADDRESSES:
        newcomers.count_session(address, -1)
    assert newcomers.may_open("192.0.2.1")
    assert newcomers.may_open("2001:db8::3")


def test_connects_of_an_address() -> None:
    """An address has so many connects under way for each of its sessions; the next waits for none of them."""
    newcomers = Newcomers(2)
    for _ in range(2 * CONNECTS_FOR_A_SESSION):
        newcomers.begin_connect("192.0.2.1")
    with pytest.raises(PacketFlood):
        newcomers.begin_connect("192.0.2.1")
    newcomers.begin_connect("192.0.2.2")
    newcomers.end_connect("192.0.2.1")
    newcomers.begin_connect("192.0.2.1")


def test_no_bound() -> None:
    """A bound of 0 is none, for sessions and for connects."""
    newcomers = Newcomers(0)
    for _ in range(100):
        assert newcomers.may_open("192.0.2.1")
        newcomers.count_session("192.0.2.1", 1)
        newcomers.begin_connect("192.0.2.1")


def test_rate_of_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst of 100 packets may come at once, and 100 packets in each second."""
    now = 1_000.0
    monkeypatch.setattr(allowance, "monotonic", lambda: now)
    bucket = Allowance()
    for _ in range(PACKETS_AT_ONCE):
        bucket.spend()
    now += 0.5
    for _ in range(int(PACKETS_A_SECOND / 2)):
        bucket.spend()
    with pytest.raises(PacketFlood) as caught:
        bucket.spend()
    assert caught.value.reason == PACKETS_TOO_FAST
