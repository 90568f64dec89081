"""The decisions of one session, with time passed in and sockets that only remember."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.socketio.engine_packet import (
    CLOSE,
    NOOP,
    PING,
    PONG,
    BinaryPacket,
    EncodedPacket,
    MalformedPacket,
    Packet,
)
from app.socketio.engine_polling import release_poll
from app.socketio.engine_ports import EngineSettings
from app.socketio.engine_posted import PACKETS_A_TURN, PostedPackets
from app.socketio.engine_session import EngineSession
from app.socketio.engine_state import SessionState
from app.socketio.engine_upgrade import UpgradeProbe
from app.transport.deadline_wheel import DeadlineWheel

OPEN = EncodedPacket(b"0{}")
HELLO = EncodedPacket(b"4hello")


class Owner:
    """A server of one session."""

    def __init__(self) -> None:
        self.settings = EngineSettings(ping_interval_seconds=25, ping_timeout_seconds=20, max_outbox_bytes=1_000)
        self.heartbeats = DeadlineWheel(0.25)
        self.outbox_full_total = 0
        self.forgotten: list[str] = []

    def open_packet(self, sid: str, has_upgrade: bool) -> EncodedPacket:
        """Greet."""
        return OPEN

    def forget(self, sid: str) -> None:
        """Remember the dropped id."""
        self.forgotten.append(sid)


#: The second byte of a frame of 126 to 65,535 bytes, whose length follows in two more.
_LONG = 126


class RememberingSocket:
    """A WebSocket that remembers the written frames."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed_with: int | None = None
        self.has_left = False
        self.is_aborted = False
        self.is_paused = False
        self.buffered_bytes = 7
        self.max_bytes = 0
        self.max_message_bytes = 0
        self.counted: tuple[int, int] | None = (100, 200)

    def wire_bytes(self) -> tuple[int, int] | None:
        """The count that the test sets."""
        return self.counted

    def write_ping(self) -> None:
        """Remember a ping of the WebSocket protocol."""
        self.written.append(b"ping")

    def pause_reading(self) -> None:
        """Remember the pause."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Remember the end of the pause."""
        self.is_paused = False

    def limit_outbox(self, max_bytes: int) -> None:
        """Remember the bound."""
        self.max_bytes = max_bytes

    def limit_message(self, max_bytes: int) -> None:
        """Remember the bound."""
        self.max_message_bytes = max_bytes

    def write_frame(self, frame: bytes) -> None:
        """Remember a frame, without its header."""
        if self.closed_with is None:
            self.written.append(frame[4 if frame[1] == _LONG else 2 :])

    def write_packet(self, packet: EncodedPacket) -> None:
        """Remember a packet."""
        self.write_frame(packet.frame)

    def write_binary(self, payload: bytes) -> None:
        """Remember a binary message."""
        if self.closed_with is None:
            self.written.append(payload)

    def abort(self) -> None:
        """Remember the end."""
        self.is_aborted = True

    def leave(self, code: int = 1000, reason: str = "") -> None:
        """Remember that this was the way of closing."""
        self.has_left = True
        self.close(code, reason)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Remember the close."""
        self.closed_with = code


class RememberingListener:
    """A listener that remembers its calls."""

    def __init__(self) -> None:
        self.messages: list[bytes | tuple[bytes]] = []
        self.reasons: list[str] = []
        self.moves = 0

    def session_started(self) -> None:
        """Nothing to say."""

    def message_received(self, packet: bytes) -> None:
        """Remember; one message is malformed."""
        if packet == b"4bad":
            raise MalformedPacket
        self.messages.append(packet)

    def binary_received(self, data: bytes) -> None:
        """Remember; one message is malformed."""
        if data == b"bad":
            raise MalformedPacket
        self.messages.append((data,))

    def sender_changed(self) -> None:
        """Remember the move."""
        self.moves += 1

    def session_closed(self, reason: str) -> None:
        """Remember the reason."""
        self.reasons.append(reason)


class Case:
    """A session with all that it speaks to."""

    def __init__(self, version: int = 4, on_socket: bool = False) -> None:
        self.owner = Owner()
        self.listener = RememberingListener()
        self.socket = RememberingSocket()
        self.session = EngineSession(self.owner, "sid", version)
        self.started_at = asyncio.get_running_loop().time()
        self.session.start(self.listener, self.socket if on_socket else None, self.started_at)
        if not on_socket:
            assert self.session.take_payload() == [OPEN]

    async def poll(self) -> asyncio.Future[bool]:
        """Begin a poll that waits."""
        assert self.session.mailbox is not None
        poll = asyncio.ensure_future(self.session.mailbox.wait())
        await asyncio.sleep(0)
        return poll

    def probe(self) -> UpgradeProbe:
        """Offer the socket."""
        probe = UpgradeProbe(self.session, self.socket)
        assert self.session.offer_socket(self.socket)
        return probe

    def assert_ended(self, reason: str) -> None:
        """The session is over, told once."""
        assert self.session.state is SessionState.CLOSED
        assert self.listener.reasons == [reason]
        assert self.owner.forgotten == ["sid"]
        assert len(self.owner.heartbeats) == 0


async def test_heartbeat_of_version_4() -> None:
    """A ping after the interval, the next an interval after the pong; none in time: closed."""
    case = Case(on_socket=True)
    session = case.session
    assert session.deadline == case.started_at + 25
    session.deadline_passed(session.deadline + 0.1)
    assert case.socket.written == [OPEN.packet, PING.packet]
    assert session.deadline == case.started_at + 45, "from the moment that was due"
    session.text_received(b"3")
    assert session.deadline < case.started_at + 26
    session.deadline_passed(session.deadline)
    session.deadline_passed(session.deadline)
    case.assert_ended("ping timeout")
    assert case.socket.closed_with == 1000


async def test_late_loop_does_not_cost_the_client_its_time() -> None:
    """A ping that leaves late is waited for longer."""
    case = Case(on_socket=True)
    case.session.deadline_passed(case.started_at + 125)
    assert case.session.deadline >= case.started_at + 125 + 15


async def test_heartbeat_of_version_3() -> None:
    """The client pings; without a ping for interval and time-out the session is closed."""
    case = Case(version=3, on_socket=True)
    assert case.session.deadline == case.started_at + 45
    case.session.text_received(b"2")
    assert case.socket.written == [OPEN.packet, PONG.packet]
    case.session.deadline_passed(case.session.deadline)
    case.assert_ended("ping timeout")


async def test_deadline_is_looked_at_between_ticks() -> None:
    """A request that comes after the time is up, but before the tick, meets a closed session."""
    case = Case()
    case.session.check_deadline(case.started_at + 24)
    case.session.deadline_passed(case.started_at + 25)
    case.session.check_deadline(case.started_at + 44.9)
    assert case.session.is_open
    case.session.check_deadline(case.started_at + 45)
    case.assert_ended("ping timeout")


@pytest.mark.parametrize(
    ("version", "packet"), [(4, b"2"), (3, b"3"), (3, b"b2"), (3, b"bb4"), (4, b"7"), (4, b"x"), (4, b""), (4, b"\xff")]
)
async def test_wrong_packets(version: int, packet: bytes) -> None:
    """A heartbeat in the wrong direction, or a malformed packet, ends the session, over either transport."""
    case = Case(version, on_socket=True)
    case.session.text_received(packet)
    case.assert_ended("parse error")
    with pytest.raises(MalformedPacket):
        Case(version).session.packet_received(packet)


@pytest.mark.parametrize("packet", [b"4bad", BinaryPacket(b"bad")])
async def test_listener_finds_a_packet_malformed(packet: bytes | BinaryPacket) -> None:
    """A message that the listener cannot read ends the session."""
    case = Case(on_socket=True)
    if isinstance(packet, BinaryPacket):
        case.session.binary_received(packet.data)
    else:
        case.session.text_received(packet)
    case.assert_ended("parse error")
    with pytest.raises(MalformedPacket):
        Case().session.packet_received(packet)


async def test_packets_that_mean_nothing() -> None:
    """A noop, a pong that was not asked for and an upgrade on the WebSocket that has it are ignored."""
    case = Case(on_socket=True)
    for packet in (b"6", b"3", b"5", b"0"):
        case.session.text_received(packet)
    assert case.session.is_open
    assert case.session.deadline == case.started_at + 25


async def test_binary_of_version_3() -> None:
    """Version 3 puts the packet type before binary messages, in both directions."""
    case = Case(version=3, on_socket=True)
    case.session.binary_received(b"\x04abc")
    assert case.listener.messages == [(b"abc",)]
    case.session.send_binary(b"xyz")
    assert case.socket.written[-1] == b"\x04xyz"
    case.session.binary_received(b"abc")
    case.assert_ended("parse error")


@pytest.mark.parametrize(
    ("version", "packet", "data"),
    [
        (4, b"bYWJj", b"abc"),
        (3, b"b4YWJj", b"abc"),
        (4, b"bYWI", b"ab"),
        (4, b"bYW-_Jj!", b"am\xbf\xbf"[:0] + b"a\x6f\xbf\x26"),
        (4, b"bYWJjZ", b"abc"),
        (4, b"b", b""),
    ],
)
async def test_base64_over_a_websocket(version: int, packet: bytes, data: bytes) -> None:
    """A client that sends binary messages as base64 on a WebSocket (`forceBase64`) is read as on polling."""
    case = Case(version, on_socket=True)
    case.session.text_received(packet)
    assert case.listener.messages == [(data,)]
    case.session.text_received(b"b6" if version == 3 else b"6")
    assert case.session.is_open


async def test_binary_of_version_4() -> None:
    """Version 4 sends binary messages as they are."""
    case = Case(on_socket=True)
    case.session.binary_received(b"abc")
    assert case.listener.messages == [(b"abc",)]
    case.session.send_binary(b"xyz")
    assert case.socket.written[-1] == b"xyz"


async def test_version_3_is_written_in_ascii() -> None:
    """Old clients get escapes, new ones UTF-8."""
    packet = EncodedPacket('4"é"'.encode())
    for version, expected in ((3, b'4"\\u00e9"'), (4, packet.packet)):
        case = Case(version, on_socket=True)
        case.session.send_encoded(packet)
        assert case.socket.written[-1] == expected


async def test_messages_after_a_close_packet_are_ignored() -> None:
    """Packets behind a close packet in the same payload are not handled."""
    case = Case()
    assert not PostedPackets(case.session, [b"4a", b"1", b"4b"]).work(PACKETS_A_TURN)
    assert case.listener.messages == [b"4a"]
    case.assert_ended("client disconnect")


async def test_client_closes_while_a_poll_waits() -> None:
    """The waiting poll is answered with a noop."""
    case = Case()
    poll = await case.poll()
    case.session.packet_received(b"1")
    assert await poll
    assert case.session.take_payload() == [NOOP]
    case.assert_ended("client disconnect")


async def test_released_poll() -> None:
    """The poll that waits is answered with a noop, or the next one; once, and not when something else answers it."""
    case = Case()
    poll = await case.poll()
    release_poll(case.session)
    assert await poll
    assert case.session.take_payload() == [NOOP]
    for _ in range(2):
        release_poll(case.session)
    assert case.session.take_payload() == [NOOP]
    assert case.session.mailbox
    assert not case.session.mailbox.has_payload
    case.session.send_encoded(HELLO)
    release_poll(case.session)
    assert case.session.take_payload() == [HELLO]
    assert case.session.is_open


async def test_nothing_to_release() -> None:
    """A session that a WebSocket carries, or that is over, has no poll."""
    case = Case(on_socket=True)
    frames = list(case.socket.written)
    release_poll(case.session)
    assert case.socket.written == frames
    over = Case()
    over.session.close("ping timeout")
    release_poll(over.session)
    assert over.session.mailbox
    assert not over.session.mailbox.has_payload


async def test_outbox_full() -> None:
    """More than the bound while polling ends the session with a named reason, counted."""
    case = Case()
    for _ in range(100):
        case.session.send_encoded(HELLO)
    case.assert_ended("outbox full")
    assert case.owner.outbox_full_total == 1
    assert case.session.buffered_bytes == 0


async def test_outbox_full_of_the_transport() -> None:
    """The transport's bound ends the session with the same reason, counted."""
    case = Case(on_socket=True)
    assert case.session.buffered_bytes == 7
    case.session.connection_lost(1008, "outbox full")
    case.assert_ended("outbox full")
    assert case.owner.outbox_full_total == 1


async def test_socket_lost() -> None:
    """A lost WebSocket ends the session; nothing is sent or received after it."""
    case = Case(on_socket=True)
    case.session.connection_lost(1006, "")
    case.session.send_encoded(HELLO)
    case.session.send_binary(b"x")
    case.session.text_received(b"4late")
    case.session.binary_received(b"late")
    case.session.close("server disconnect")
    case.assert_ended("transport close")
    assert case.listener.messages == []
    assert case.socket.written == [OPEN.packet]


async def test_bytes_of_a_session() -> None:
    """The bytes are those of the bodies of its requests and of its socket, also when the socket is given up."""
    case = Case()
    case.session.count_bytes(3, 4)
    assert case.session.wire_bytes() == (3, 4)
    case.session.offer_socket(case.socket)
    case.session.take_socket(case.socket)
    assert case.session.wire_bytes() == (103, 204)
    case.session.connection_lost(1006, "")
    case.socket.counted = (0, 0)
    assert case.session.wire_bytes() == (103, 204)


async def test_bytes_of_a_socket_that_does_not_tell() -> None:
    """The bytes of a session whose socket does not tell are unknown, also once it is closed."""
    case = Case(on_socket=True)
    case.socket.counted = None
    assert case.session.wire_bytes() is None
    case.session.close("ping timeout")
    assert case.session.wire_bytes() is None


async def test_socket_lost_before_the_start() -> None:
    """A session whose WebSocket is gone before it is greeted ends at once."""
    owner, listener = Owner(), RememberingListener()
    session = EngineSession(owner, "sid", 4)
    session.connection_lost(1006, "")
    session.start(listener, RememberingSocket(), 0.0)
    assert listener.reasons == ["transport close"]
    assert len(owner.heartbeats) == 0


async def test_close_of_a_socket() -> None:
    """Packets sent before the close leave; the listener is told once, and hears nothing more."""
    case = Case(on_socket=True)
    case.session.send_encoded(HELLO)
    case.session.close("ping timeout")
    case.session.text_received(b"4ack")
    case.session.connection_lost(1000, "")
    assert case.socket.written == [OPEN.packet, HELLO.packet]
    assert (case.socket.closed_with, case.socket.has_left) == (1000, False)
    assert case.listener.messages == []
    case.assert_ended("ping timeout")


async def test_close_while_a_poll_waits() -> None:
    """The waiting poll gets the close packet."""
    case = Case()
    poll = await case.poll()
    case.session.close("ping timeout")
    assert await poll
    assert case.session.take_payload() == [CLOSE]
    case.assert_ended("ping timeout")


async def test_close_between_polls() -> None:
    """A session that is closed for its client's sake is over at once."""
    case = Case()
    case.session.close("ping timeout")
    case.assert_ended("ping timeout")


async def test_closed_while_it_probes() -> None:
    """The offered WebSocket goes with the session."""
    case = Case()
    case.probe()
    case.session.close("ping timeout")
    assert case.socket.closed_with == 1000
    case.assert_ended("ping timeout")


async def test_leaving_a_socket() -> None:
    """Told to leave, a client is first sent nothing more, then the close; its acks are read up to its answer."""
    case = Case(on_socket=True)
    case.session.close("server disconnect")
    assert (case.session.state, case.session.is_open) == (SessionState.LEAVING, False)
    assert case.session.deadline - case.started_at < 1
    for expected in ([b"4ack"], [b"4ack", b"4ack"]):
        case.session.text_received(b"4ack")
        case.session.text_received(b"3")
        case.session.send_encoded(HELLO)
        assert case.listener.messages == expected
        if case.session.state is SessionState.LEAVING:
            assert case.socket.closed_with is None
            case.session.deadline_passed(case.session.deadline)
            assert case.socket.has_left
    assert case.session.state is SessionState.CLOSING
    assert case.socket.written == [OPEN.packet]
    assert case.listener.reasons == []
    case.session.close("ping timeout")
    case.session.connection_lost(1000, "")
    case.assert_ended("server disconnect")


@pytest.mark.parametrize("version", [4, 3])
async def test_heartbeat_while_leaving(version: int) -> None:
    """A ping or pong that comes meanwhile does not put off the moment at which the client is told."""
    case = Case(version, on_socket=True)
    if version == 4:
        case.session.deadline_passed(case.session.deadline)
    case.session.close("server disconnect")
    told_at = case.session.deadline
    case.session.text_received(b"2" if version == 3 else b"3")
    assert case.session.deadline == told_at


async def test_leaving_between_polls() -> None:
    """The waiting packets stay for the next poll, with the close packet behind them; acks are taken until then."""
    case = Case()
    case.session.send_encoded(HELLO)
    case.session.close("server disconnect")
    case.session.send_encoded(HELLO)
    case.session.packet_received(b"4ack")
    case.session.deadline_passed(case.session.deadline)
    assert case.session.state is SessionState.CLOSING
    case.session.packet_received(b"4ack")
    assert case.listener.messages == [b"4ack"] * 2
    assert case.listener.reasons == []
    assert case.session.take_payload() == [HELLO, CLOSE]
    case.assert_ended("server disconnect")


async def test_leaving_while_a_poll_waits() -> None:
    """The waiting poll gets the close packet, when the acks have had their time."""
    case = Case()
    poll = await case.poll()
    case.session.close("server disconnect")
    assert not poll.done()
    case.session.deadline_passed(case.session.deadline)
    assert await poll
    assert case.session.take_payload() == [CLOSE]
    case.assert_ended("server disconnect")


async def test_leaving_while_it_probes() -> None:
    """The offered WebSocket goes at once, and cannot take the session over any more: its end comes by a poll."""
    case = Case()
    probe = case.probe()
    case.session.close("server disconnect")
    assert case.socket.closed_with == 1000
    probe.text_received(b"5")
    case.session.deadline_passed(case.session.deadline)
    assert case.session.take_payload() == [CLOSE]
    case.assert_ended("server disconnect")


@pytest.mark.parametrize("on_socket", [True, False])
async def test_client_that_does_not_leave(on_socket: bool) -> None:
    """A client that does not answer is given up after a time; nothing that comes later is heard."""
    case = Case(on_socket=on_socket)
    case.session.close("server disconnect")
    case.session.deadline_passed(case.session.deadline)
    case.session.deadline_passed(case.session.deadline)
    assert case.socket.is_aborted is on_socket
    case.session.text_received(b"4late")
    case.session.connection_lost(1006, "")
    assert case.listener.messages == []
    case.assert_ended("server disconnect")


def numbered(number: int) -> Packet:
    """A packet that carries its number, every third in binary."""
    text = b"4%d" % number
    return BinaryPacket(text) if number % 3 == 0 else EncodedPacket(text)


@given(st.lists(st.sampled_from(["send", "poll", "probe", "upgrade", "lose"]), max_size=40))
async def test_upgrade_keeps_order(steps: list[str]) -> None:
    """Whenever a client probes, upgrades, polls or loses its probe: every packet arrives once, in order."""
    case = Case()
    received: list[bytes] = []
    sent = 0
    probe: UpgradeProbe | None = None
    for step in [*steps, "send"]:
        if step == "send":
            packet = numbered(sent)
            if isinstance(packet, BinaryPacket):
                case.session.send_binary(packet.data)
            else:
                case.session.send_encoded(packet)
            sent += 1
        elif step == "poll" and case.session.state is not SessionState.WEBSOCKET:
            received += bytes_of(case.session.take_payload())
        elif step == "probe" and case.session.state is SessionState.POLLING:
            case.socket = RememberingSocket()
            probe = case.probe()
            probe.text_received(b"2probe")
        elif step == "upgrade" and probe is not None and case.session.state is SessionState.PROBING:
            probe.text_received(b"5")
        elif step == "lose" and probe is not None and case.session.state is SessionState.PROBING:
            probe.connection_lost(1006, "")
    if case.session.state is not SessionState.WEBSOCKET:
        received += bytes_of(case.session.take_payload())
    else:
        received += case.socket.written
    messages = [each for each in received if each.startswith(b"4")]
    assert messages == [b"4%d" % number for number in range(sent)]


def bytes_of(packets: list[Packet]) -> list[bytes]:
    """The packets' contents."""
    return [packet.data if isinstance(packet, BinaryPacket) else packet.packet for packet in packets]


async def test_receipt_of_version_4_is_a_pong_of_its_own() -> None:
    """The pong of a ping proves that the client has all earlier packets; a pong of the heartbeat proves nothing."""
    case = Case(on_socket=True)
    heard: list[str] = []
    case.session.deadline_passed(case.session.deadline)
    case.session.confirm_receipt(lambda: heard.append("a"))
    assert case.socket.written == [OPEN.packet, PING.packet, PING.packet]
    case.session.text_received(b"3")
    assert heard == []
    case.session.text_received(b"3")
    assert heard == ["a"]
    case.session.text_received(b"3")
    assert heard == ["a"]


async def test_receipt_of_version_3_is_a_pong_of_the_websocket() -> None:
    """A version 3 client answers no ping of ours but the WebSocket's."""
    case = Case(version=3, on_socket=True)
    heard: list[str] = []
    case.session.confirm_receipt(lambda: heard.append("a"))
    assert case.socket.written[-1] == b"ping"
    case.session.pong_received()
    assert heard == ["a"]


async def test_receipt_of_what_version_3_has_fetched_before() -> None:
    """A question about packets of an earlier payload makes another payload: the poll behind that one answers, not the
    next packet that happens to be sent."""
    case = Case(version=3)
    heard: list[str] = []
    case.session.send_encoded(EncodedPacket(b"4first"))
    case.session.take_payload()
    case.session.confirm_receipt(lambda: heard.append("a"))
    case.session.poll_received()
    assert case.session.mailbox is not None
    assert case.session.mailbox.has_payload
    assert [packet.packet for packet in case.session.take_payload() if isinstance(packet, EncodedPacket)] == [b"6"]
    case.session.poll_received()
    assert heard == ["a"]
    case.session.send_encoded(EncodedPacket(b"4second"))
    case.session.confirm_receipt(lambda: heard.append("b"))
    assert len(case.session.take_payload()) == 1
    case.session.poll_received()
    assert heard == ["a", "b"]


async def test_receipt_of_version_3_is_the_next_poll() -> None:
    """A polling client of version 3 has a payload when it asks for the next one, or answers after its upgrade."""
    case = Case(version=3)
    heard: list[str] = []
    case.session.confirm_receipt(lambda: heard.append("a"))
    case.session.poll_received()
    assert heard == []
    case.session.take_payload()
    case.session.poll_received()
    assert heard == ["a"]
    case.session.confirm_receipt(lambda: heard.append("b"))
    probe = case.probe()
    probe.text_received(b"2probe")
    probe.text_received(b"5")
    assert case.socket.written[-1] == b"ping"
    case.session.pong_received()
    assert heard == ["a", "b"]
