"""The WebSocket that wants to take a polling session over."""

from __future__ import annotations

import pytest

from app.socketio import engine_upgrade
from app.socketio.engine_packet import NOOP, PONG_PROBE, EncodedPacket
from app.socketio.engine_posted import PostedPackets
from app.socketio.engine_state import SessionState
from app.socketio.engine_upgrade import UpgradeProbe
from tests.socketio.test_engine_session import Case, RememberingSocket
from tests.support.waiting import until


async def test_probe_and_upgrade() -> None:
    """The probe is answered, a waiting poll ends, then messages of both kinds pass."""
    case = Case()
    poll = await case.poll()
    probe = case.probe()
    probe.text_received(b"2probe")
    assert case.socket.written == [PONG_PROBE.packet]
    assert await poll
    assert case.session.take_payload() == [NOOP]
    probe.text_received(b"5")
    probe.text_received(b"4hello")
    probe.binary_received(b"bytes")
    assert case.session.state is SessionState.WEBSOCKET
    assert case.listener.messages == [b"4hello", (b"bytes",)]
    probe.writing_resumed()
    probe.connection_lost(1001, "")
    case.assert_ended("transport close")


async def test_what_waits_moves_over() -> None:
    """Packets that no poll has fetched leave on the WebSocket first, in order; a late poll gets a noop."""
    case = Case()
    probe = case.probe()
    probe.text_received(b"2probe")
    assert case.session.take_payload() == [NOOP]
    poll = await case.poll()
    case.session.send_encoded(EncodedPacket(b"4a"))
    case.session.send_binary(b"b")
    probe.text_received(b"5")
    case.session.send_encoded(EncodedPacket(b"4c"))
    assert case.socket.written[1:] == [b"4a", b"b", b"4c"]
    assert await poll
    assert case.session.take_payload() == [NOOP]


async def test_only_one_may_probe() -> None:
    """A second WebSocket is refused while one probes, and after it took over."""
    case = Case()
    probe = case.probe()
    assert not case.session.offer_socket(RememberingSocket())
    probe.text_received(b"5")
    assert not case.session.offer_socket(RememberingSocket())


async def test_lost_probe_leaves_polling() -> None:
    """A probe that is lost leaves the session polling, and another may come."""
    case = Case()
    probe = case.probe()
    probe.text_received(b"2probe")
    probe.connection_lost(1006, "")
    assert case.session.state is SessionState.POLLING
    assert case.session.mailbox is not None
    assert not case.session.mailbox.has_payload
    assert case.session.is_open
    assert case.session.offer_socket(RememberingSocket())


async def test_old_probe_does_not_disturb_a_new_one() -> None:
    """Late messages and the loss of an old probe do not touch the next probe."""
    case = Case()
    old = case.probe()
    old.connection_lost(1006, "")
    case.socket = RememberingSocket()
    new = case.probe()
    old.text_received(b"5")
    old.connection_lost(1006, "")
    assert case.session.state is SessionState.PROBING
    new.text_received(b"5")
    assert case.session.socket is case.socket


async def test_probe_that_does_not_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """A WebSocket that does not take over in time, or that probes for ever, is closed; the session polls on."""
    monkeypatch.setattr(engine_upgrade, "UPGRADE_SECONDS", 0.01)
    case = Case()
    case.probe().text_received(b"2probe")
    await until(lambda: case.socket.closed_with == 1000, "the close")
    assert case.session.is_open
    case = Case()
    probe = case.probe()
    for _ in range(9):
        probe.text_received(b"2probe")
    assert case.socket.written == [PONG_PROBE.packet] * 8
    assert case.socket.closed_with == 1000


async def test_posted_packets_are_not_overtaken() -> None:
    """The WebSocket takes over behind the packets of a POST, which keep their slices; it is not read until then."""
    case = Case()
    posted = case.session.posted = PostedPackets(case.session, [b"4a", b"4b", b"4c"])
    assert posted.work(1)
    probe = case.probe()
    probe.text_received(b"2probe")
    probe.text_received(b"5")
    assert case.socket.is_paused
    # Read together with the 5.
    probe.text_received(b"4d")
    probe.binary_received(b"e")
    assert case.listener.messages == [b"4a"]
    assert case.session.socket is None
    while posted.work(1):
        pass
    case.session.posted = None
    posted.end()
    assert case.session.state is SessionState.WEBSOCKET
    assert not case.socket.is_paused
    probe.text_received(b"4f")
    assert case.listener.messages == [b"4a", b"4b", b"4c", b"4d", (b"e",), b"4f"]


async def test_probe_that_is_lost_while_it_waits_for_posted_packets() -> None:
    """The session polls on when the WebSocket ends before the packets of the POST do."""
    case = Case()
    posted = case.session.posted = PostedPackets(case.session, [b"4a"])
    probe = case.probe()
    probe.text_received(b"5")
    probe.text_received(b"4d")
    probe.connection_lost(1006, "")
    assert not posted.work(2)
    case.session.posted = None
    posted.end()
    assert case.session.state is SessionState.POLLING
    assert case.listener.messages == [b"4a"]


async def test_bound_of_messages_moves_along() -> None:
    """The bound that a session has when it moves, or gets while a WebSocket probes, is that of the WebSocket."""
    case = Case()
    case.session.limit_message(500)
    probe = case.probe()
    assert probe.max_message_bytes == 500
    case.session.limit_message(600)
    assert case.socket.max_message_bytes == 600
    probe.text_received(b"5")
    assert case.socket.max_message_bytes == 600


@pytest.mark.parametrize("message", [b"4hello", b"2", b"", b"probe", b"1"])
async def test_wrong_words_of_a_probe(message: bytes) -> None:
    """Anything but the probe and the upgrade closes the WebSocket, not the session."""
    case = Case()
    case.probe().text_received(message)
    assert case.socket.closed_with == 1000
    assert case.session.is_open
    assert case.listener.messages == []


async def test_binary_before_the_upgrade() -> None:
    """A binary message before the upgrade closes the WebSocket, not the session."""
    case = Case()
    UpgradeProbe(case.session, case.socket).binary_received(b"x")
    assert case.socket.closed_with == 1000
    assert case.session.is_open
