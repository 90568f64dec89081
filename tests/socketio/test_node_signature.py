"""Signatures of requests between nodes: made, checked, refused."""

from __future__ import annotations

import pytest

from app.socketio import node_signature
from app.socketio.engine_request import Headers
from app.socketio.node_signature import CLIENT, RELEASE, SIGNATURE, Signer, wire_target

SECRET = "a secret of all nodes"
TARGET = b"/socket.io/?EIO=4&transport=polling&sid=aa.x"
HEADERS: Headers = [(b"host", b"x"), (CLIENT, b"192.0.2.1 5000")]


class Clock:
    """The time in milliseconds, as the test says."""

    def __init__(self) -> None:
        """Some moment."""
        self.now = 1_700_000_000_000

    def __call__(self) -> int:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of both nodes."""
    return Clock()


def signed(clock: Clock, secret: str = SECRET) -> bytes:
    """The signature of a request."""
    name, value = Signer(secret, clock).sign("GET", TARGET, HEADERS)
    assert name == SIGNATURE
    return value


def test_a_signed_request_counts_once(clock: Clock) -> None:
    """The other node accepts it once; it says nothing of the secret."""
    there = Signer(SECRET, clock)
    value = signed(clock)
    assert SECRET.encode() not in value
    assert there.accepts(value, "GET", TARGET, [*HEADERS, (b"cookie", b"any")])
    assert not there.accepts(value, "GET", TARGET, HEADERS)
    assert there.accepts(signed(clock), "GET", TARGET, HEADERS)


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("POST", TARGET, HEADERS),
        ("GET", TARGET + b"y", HEADERS),
        ("GET", TARGET, [(CLIENT, b"192.0.2.2 5000")]),
        ("GET", TARGET, []),
        ("GET", TARGET, [*HEADERS, (RELEASE, b"1")]),
    ],
)
def test_another_request(clock: Clock, method: str, target: bytes, headers: Headers) -> None:
    """A signature counts for its own request alone: method, target and what nodes tell each other."""
    assert not Signer(SECRET, clock).accepts(signed(clock), method, target, headers)


@pytest.mark.parametrize("seconds", [-31, 31])
def test_clock_skew(clock: Clock, seconds: int) -> None:
    """A signature of long ago, or of a clock that is far ahead, does not count."""
    value = signed(clock)
    clock.now += seconds * 1000
    assert not Signer(SECRET, clock).accepts(value, "GET", TARGET, HEADERS)
    clock.now -= seconds // abs(seconds) * 1000
    assert Signer(SECRET, clock).accepts(value, "GET", TARGET, HEADERS)


FORGED = (b"", b"guess", SECRET.encode(), b"1 2 3", b"\xff", b"0 " + b"0" * 32 + b" " + b"0" * 64)


@pytest.mark.parametrize("given", FORGED)
def test_forged_signatures(clock: Clock, given: bytes) -> None:
    """Anything else is refused, never an error; so is the signature of another secret."""
    there = Signer(SECRET, clock)
    assert not there.accepts(given, "GET", TARGET, HEADERS)
    assert not there.accepts(signed(clock, "another"), "GET", TARGET, HEADERS)


def test_nonces_are_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nonces are forgotten when their signatures have expired, or when there are too many."""
    monkeypatch.setattr(node_signature, "MAX_NONCES", 3)
    there = Signer(SECRET, clock)
    values = [signed(clock) for _ in range(5)]
    for value in values:
        assert there.accepts(value, "GET", TARGET, HEADERS)
    assert len(there._seen) == 3
    assert not there.accepts(values[-1], "GET", TARGET, HEADERS)
    clock.now += 61_000
    assert there.accepts(signed(clock), "GET", TARGET, HEADERS)
    assert len(there._seen) == 1


def test_target_on_the_wire(clock: Clock) -> None:
    """Bytes that no URL may hold are percent-encoded on their way, and signed so."""
    assert wire_target(b"/socket.io/?sid=\xe9") == b"/socket.io/?sid=%E9"
    _, value = Signer(SECRET, clock).sign("GET", b"/\xe9", [])
    assert Signer(SECRET, clock).accepts(value, "GET", b"/%E9", [])
