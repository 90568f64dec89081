"""The row of TLS handshakes: a share for each owner of an address, turns, and the time that handshakes may take."""

from __future__ import annotations

from app.transport.handshake_row import SHARE, TURN_SECONDS, HandshakeRow

CHEAP = TURN_SECONDS / 10


def filled(*owners: str) -> HandshakeRow[str]:
    """A row in which a client of each owner waits, in this order, named after its owner and its place."""
    row: HandshakeRow[str] = HandshakeRow(0)
    for place, owner in enumerate(owners):
        assert row.enter(owner)
        row.wait(owner, f"{owner}{place}")
    return row


def test_an_owner_has_a_share() -> None:
    """A client over its owner's share is refused until another one of that owner has left; other owners get in."""
    row: HandshakeRow[str] = HandshakeRow(2)
    assert [row.enter("a") for _ in range(3)] == [True, True, False]
    assert row.enter("b")
    row.leave("a")
    assert [row.enter("a"), row.enter("a")] == [True, False]


def test_any_number_without_a_share() -> None:
    """Without a share an owner may have any number of clients."""
    row: HandshakeRow[str] = HandshakeRow(0)
    assert all(row.enter("a") for _ in range(5000))


def test_owners_take_turns() -> None:
    """A client does not wait for more than one other of each owner, however many an owner has brought before it."""
    row = filled(*["a"] * 1000, "b", "c")
    assert row.begin(0.0, CHEAP)[:4] == ["a0", "b1000", "c1001", "a1"]


def test_a_turn_is_short() -> None:
    """A turn of the loop begins as many handshakes as its time allows, and at least one."""
    row = filled(*["a"] * 100)
    assert len(row.begin(0.0, CHEAP)) == 10
    assert len(row.begin(0.0, TURN_SECONDS * 5)) == 1
    assert row.waiting == 89


def test_handshakes_take_a_share_of_the_time() -> None:
    """Behind a turn the next handshakes wait, so that over time they take their share alone."""
    row = filled(*["a"] * 1000)
    now, spent = 0.0, 0.0
    while (pause := row.pause_seconds(now)) is not None:
        now += pause
        spent += len(row.begin(now, CHEAP)) * CHEAP
    assert spent <= SHARE * (now + 2 * TURN_SECONDS)
    assert spent >= SHARE * now


def test_nobody_waits() -> None:
    """Without clients there is nothing to wait for, and nothing begins."""
    row = filled()
    assert row.pause_seconds(0.0) is None
    assert row.begin(0.0, CHEAP) == []


def test_one_is_dropped() -> None:
    """The last client of an owner with several goes first; an owner with one keeps it."""
    row = filled("a", "b", "a", "c", "a")
    assert row.begin(0.0, TURN_SECONDS) == ["a0"]
    assert [row.drop_one(), row.drop_one()] == ["a4", None]
    assert row.waiting == 3
    assert row.begin(1.0, CHEAP) == ["b1", "c3", "a2"]


def test_all_are_taken_out() -> None:
    """A row that ends gives its clients back, of every owner."""
    row = filled("a", "b", "a")
    assert sorted(row.clear()) == ["a0", "a2", "b1"]
    assert (row.waiting, row.pause_seconds(0.0)) == (0, None)
