"""The order in which a client gets its messages, and the messages that it is known to have."""

from __future__ import annotations

import itertools
import json
from hashlib import sha1
from typing import Any, cast

import pytest

from app.core import catch_up
from app.protocols.redis_publish.envelope import Envelopes
from app.protocols.redis_publish.mailbox_ports import Part, Told
from app.protocols.redis_publish.ports import ClientConnection
from app.protocols.redis_publish.recipient import Recipient, RecipientPhase

NODE = "aa"


class FakeConnection:
    """A client that records the messages written to it, and may leave after a number of them."""

    def __init__(self) -> None:
        self.written: list[tuple[str, bool, int | None]] = []
        self.is_closed = False
        self.leaves_after = 1_000

    def send_body(self, body: bytes, ack_id: int | None = None) -> None:
        """Records payload, bubble and ack id."""
        _, message = json.loads(body)
        self.written.append((message["payload"], message["bubble"], ack_id))
        if len(self.written) == self.leaves_after:
            self.is_closed = True

    @property
    def payloads(self) -> list[str]:
        """The payloads of the written messages."""
        return [payload for payload, _, _ in self.written]


def entry(payload: str) -> bytes:
    """An entry with this payload."""
    return Envelopes().seal("rm.users.u", 1, payload.encode())


def part(*payloads: str, last_told: int = 0, has_more: bool = False, is_first: bool = True) -> Part:
    """A part from the mailbox."""
    return Part(last_told, is_first, has_more, [entry(payload) for payload in payloads])


def told(number: int, first: tuple[str, int] = (NODE, 1), is_listed: bool = False) -> Told:
    """The message `m<number>`."""
    return Told("u", number, first, is_listed, entry(f"m{number}"))


def recipient(with_acks: bool = False, max_pending: int = 100) -> tuple[Recipient, FakeConnection]:
    """Connection number 1 of this node, which fetches its first part."""
    connection: Any = FakeConnection()
    made = Recipient(cast(ClientConnection, connection), 1, with_acks, max_pending, itertools.count(1))
    made.fetch()
    return made, connection


def test_live_follows_what_waited() -> None:
    """A message told during a fetch is buffered. Messages that the part covers are dropped; the rest follow the
    part."""
    client, connection = recipient()
    for number in (4, 5, 6):
        assert client.receive_told(told(number), NODE)
    assert connection.written == []
    client.receive_part(part("a", "b", last_told=4), NODE)
    assert connection.payloads == ["a", "b", "m5", "m6"]
    assert client.phase is RecipientPhase.LIVE
    client.receive_told(told(7), NODE)
    client.receive_told(told(6), NODE)
    assert connection.payloads == ["a", "b", "m5", "m6", "m7"]


def test_more_waits() -> None:
    """While more messages wait, a told message stays in the list. The next part is wanted when the client has the last
    one."""
    client, connection = recipient()
    client.receive_told(told(1), NODE)
    client.receive_part(part("a", "b", last_told=1, has_more=True), NODE)
    client.receive_told(told(2, is_listed=True), NODE)
    assert connection.payloads == ["a", "b"]
    assert not client.wants_part
    client.receive_receipt(client.pending)
    assert client.take_confirmed() == [entry("a"), entry("b")]
    assert client.take_confirmed() == []
    assert client.wants_part
    client.fetch()
    assert not client.wants_part
    client.receive_part(part("m2", last_told=2), NODE)
    assert connection.payloads == ["a", "b", "m2"]
    assert client.phase is RecipientPhase.LIVE


def test_a_missing_number_is_noticed() -> None:
    """A message out of sequence is not written: the mailbox must be asked. Repeated messages are left out."""
    client, connection = recipient()
    client.receive_part(part(), NODE)
    assert client.receive_told(told(1), NODE)
    assert not client.receive_told(told(3), NODE)
    client.is_stale = True
    assert client.wants_part
    client.fetch()
    client.receive_part(part("m1", "m2", "m3", last_told=3), NODE)
    assert connection.payloads == ["m1", "m2", "m3"]


def test_gap_among_the_held() -> None:
    """A gap among the buffered messages is noticed too."""
    client, connection = recipient()
    client.receive_told(told(1), NODE)
    client.receive_told(told(3), NODE)
    client.receive_part(part(), NODE)
    assert connection.payloads == ["m1"]
    assert client.is_stale
    assert client.wants_part


@pytest.mark.parametrize("bound", ["MAX_MESSAGES", "MAX_BYTES"])
def test_too_much_while_the_mailbox_is_asked(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """Past the bound no held message is written: the mailbox has to be asked again, and answers with all of them."""
    monkeypatch.setattr(catch_up, bound, 2)
    client, connection = recipient()
    for number in range(1, 5):
        client.receive_told(told(number), NODE)
    client.receive_part(part("a"), NODE)
    assert (connection.payloads, client.wants_part) == (["a"], True)
    client.is_stale = False
    client.fetch()
    client.receive_part(part("a", "m1", "m2", "m3", "m4", last_told=4), NODE)
    assert (connection.payloads, client.wants_part) == (["a", "m1", "m2", "m3", "m4"], False)


def test_too_much_while_more_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound messages are in the list behind the part; acks of another connection that were not held are found
    by asking the mailbox again."""
    monkeypatch.setattr(catch_up, "MAX_MESSAGES", 1)
    client, connection = recipient(with_acks=True)
    for number in range(1, 4):
        client.receive_told(told(number, is_listed=True), NODE)
    client.receive_part(part("a", "b", last_told=3, has_more=True), NODE)
    assert (connection.payloads, client.wants_part) == (["a", "b"], False)
    client.fetch()
    for payload in ("a", "b"):
        client.receive_done(sha1(entry(payload)).hexdigest())
    client.receive_part(part("a", "b", last_told=3, has_more=True), NODE)
    assert client.wants_part
    client.is_stale = False
    client.fetch()
    client.receive_part(part("m1", "m2", last_told=3, has_more=True), NODE)
    assert client.pending == [entry("m1"), entry("m2")]


def test_confirmed_while_fetching_is_not_written_again() -> None:
    """A message that the client confirms during a second fetch may still be in the part, and is not written again."""
    client, connection = recipient()
    client.receive_part(part(), NODE)
    client.receive_told(told(1), NODE)
    client.fetch()
    client.receive_receipt([entry("m1")])
    client.receive_part(part("m1", last_told=1), NODE)
    assert connection.payloads == ["m1"]


def test_bubble() -> None:
    """Only the user's first connection, over all nodes, has the bubble: in waiting messages and in live ones."""
    client, connection = recipient()
    client.receive_part(part("a", is_first=False), NODE)
    client.receive_told(told(1, first=(NODE, 1)), NODE)
    client.receive_told(told(2, first=("bb", 1)), NODE)
    client.receive_told(told(3, first=(NODE, 2)), NODE)
    assert [bubble for _, bubble, _ in connection.written] == [False, True, False, False]


def test_what_others_fetch_is_not_confirmed_here() -> None:
    """A message that also waits for a fetching connection is removed when that connection has it, not when this one
    has."""
    client, _ = recipient()
    client.receive_part(part(), NODE)
    client.receive_told(told(1, is_listed=True), NODE)
    client.receive_told(told(2), NODE)
    assert client.pending == [entry("m2")]


def test_part_of_what_was_heard_live() -> None:
    """After a gap the first part may hold only messages that this client heard live, for another connection to take
    out. That one may be gone: this client's receipt takes them out, and the mailbox is not asked for ever."""
    client, connection = recipient()
    client.receive_part(part(), NODE)
    client.receive_told(told(1, is_listed=True), NODE)
    client.fetch()
    client.receive_part(part("m1", last_told=3, has_more=True), NODE)
    assert (connection.payloads, client.pending, client.wants_part) == (["m1"], [entry("m1")], False)
    client.receive_receipt([entry("m1")])
    assert (client.take_confirmed(), client.wants_part) == ([entry("m1")], True)


def test_acks() -> None:
    """With acks each message has its own id. Only an acknowledged message is confirmed, and only once."""
    client, connection = recipient(with_acks=True)
    client.receive_part(part("a"), NODE)
    client.receive_told(told(1, is_listed=True), NODE)
    assert [ack_id for _, _, ack_id in connection.written] == [1, 2]
    for ack_id in (2, 2, 9):
        client.receive_ack(ack_id)
    assert client.take_confirmed() == [entry("m1")]
    assert client.pending == [entry("a")]


def test_a_client_that_never_acknowledges_costs_a_bounded_memory() -> None:
    """Over the bound the oldest message is no longer waited for. Its ack then means nothing, and the message comes
    again."""
    client, _ = recipient(with_acks=True, max_pending=2)
    client.receive_part(part("a", "b", "c"), NODE)
    assert client.pending == [entry("b"), entry("c")]
    client.receive_ack(1)
    assert client.take_confirmed() == []
    client.receive_ack(3)
    assert client.take_confirmed() == [entry("c")]


@pytest.mark.parametrize("has_more", [False, True])
def test_client_that_leaves_while_it_is_written_to(has_more: bool) -> None:
    """No message is written to the client after its end, and no message counts as received."""
    client, connection = recipient()
    connection.leaves_after = 2
    client.receive_told(told(1), NODE)
    client.receive_part(part("a", "b", "c", has_more=has_more), NODE)
    assert connection.payloads == ["a", "b"]
    client.close()
    client.receive_told(told(2), NODE)
    client.receive_receipt([entry("a")])
    client.fetch()
    client.receive_part(part("d"), NODE)
    assert connection.payloads == ["a", "b"]
    assert client.phase is RecipientPhase.CLOSED
    assert client.take_confirmed() == []


def test_acks_of_another_connection() -> None:
    """The ack of another connection ends the wait for that message here, whether it is heard before the part or
    after."""
    client, connection = recipient(with_acks=True)
    client.receive_done(sha1(entry("a")).hexdigest())
    client.receive_part(part("a", "b", has_more=True), NODE)
    assert connection.payloads == ["a", "b"]
    assert client.pending == [entry("b")]
    client.receive_done(sha1(entry("c")).hexdigest())
    assert not client.wants_part
    client.receive_done(sha1(entry("b")).hexdigest())
    assert client.wants_part


def test_acks_of_another_connection_that_were_missed() -> None:
    """Messages older than the rest of the mailbox were acknowledged. Younger ones still wait for their acks."""
    client, _ = recipient(with_acks=True)
    client.receive_part(part("a", "b", "c"), NODE)
    client.fetch()
    client.receive_part(part("b", has_more=True), NODE)
    assert client.pending == [entry("b"), entry("c")]
    client.fetch()
    client.receive_part(part("d", has_more=True), NODE)
    assert client.pending == [entry("d")]
