"""The outbox over real sockets: one write a turn, order, the bound, peers that do not read."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.transport import connection as connection_module
from app.transport.frames import text_frame
from app.transport.outbox import OUTBOX_FULL, closings
from tests.support.waiting import until
from tests.transport.serving import CLOSE, PONG, TEXT, FastLane, Peer, Recorder, Served, client_frame, serving
from tests.transport.tls import Certificate

BOUND_BYTES = 1 << 18
# The bytes that asyncio may hold below the encryption, and one frame on top of the bound.
SLACK_BYTES = 1 << 17
HUGE_BYTES = 1 << 30


class _WriteSpy:
    """Counts the writes to a transport and passes everything on."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@pytest.fixture(params=["tcp", "tls"])
async def slow_peer(
    request: pytest.FixtureRequest, certificate: Certificate
) -> AsyncIterator[tuple[Served, Peer, Recorder]]:
    """A peer that does not read until it is told to, over TCP and over TLS."""
    application = FastLane(max_outbox_bytes=BOUND_BYTES)
    is_tls = request.param == "tls"
    files = {"ssl_certfile": certificate.certificate, "ssl_keyfile": certificate.key} if is_tls else {}
    async with serving(application, **files) as served:
        peer = await served.peer(context=certificate.client_context if is_tls else None)
        peer.pause_reading()
        yield served, peer, application.recorders[0]


def _limit(recorder: Recorder, max_outbox_bytes: int) -> None:
    recorder.connection.open_outbox(max_outbox_bytes)


async def test_frames_of_one_turn_leave_in_one_write() -> None:
    """Several frames for one socket in one turn of the loop are one write, in order; the next turn's are another."""
    application = FastLane()
    async with serving(application) as served:
        peer = await served.peer()
        connection = application.recorders[0].connection
        spy = _WriteSpy(connection._transport)
        connection._transport = spy  # type: ignore[assignment]
        for number in range(5):
            connection.write_frame(text_frame(b"%d" % number))
        connection.write_binary(b"five")
        assert connection.buffered_bytes == 5 * 3 + 6
        assert [await peer.frame() for _ in range(6)][4:] == [(TEXT, b"4"), (2, b"five")]
        connection.write_text(b"six")
        assert await peer.frame() == (TEXT, b"six")
        assert spy.writes == [b"\x81\x010\x81\x011\x81\x012\x81\x013\x81\x014\x82\x04five", b"\x81\x03six"]
        assert connection.buffered_bytes == 0


class _Packet:
    """A packet that connections share."""

    def __init__(self, text: bytes, is_first: bool) -> None:
        self.frame = self.ready_frame = text_frame(text)
        self.is_first = is_first


async def test_first_packet_of_a_turn_leaves_at_once() -> None:
    """The first shared packet of a turn is written within the call, and later ones wait for the turn's end together;
    behind a frame that waits the first one waits too: the order is that of the calls."""
    application = FastLane()
    async with serving(application) as served:
        peer = await served.peer()
        connection = application.recorders[0].connection
        spy = _WriteSpy(connection._transport)
        connection._transport = spy  # type: ignore[assignment]
        connection.write_packet(_Packet(b"0", True))
        assert spy.writes == [b"\x81\x010"]
        connection.write_packet(_Packet(b"1", False))
        connection.write_packet(_Packet(b"2", True))
        connection.write_frame(text_frame(b"3"))
        assert [await peer.frame() for _ in range(4)] == [(TEXT, b"%d" % number) for number in range(4)]
        assert spy.writes == [b"\x81\x010", b"\x81\x011\x81\x012\x81\x013"]
        connection.close()
        connection.write_packet(_Packet(b"4", True))
        assert (await peer.frame())[0] == CLOSE
        assert len(spy.writes) == 3, "nothing follows a close frame"


async def test_packets_for_a_peer_that_does_not_read_are_bounded(slow_peer: tuple[Served, Peer, Recorder]) -> None:
    """Packets that leave at once are counted like all others: the bound closes the connection."""
    _, _, recorder = slow_peer
    packet = _Packet(b"x" * 10_000, True)
    most = 0
    while not recorder.connection.closed:
        recorder.connection.write_packet(packet)
        most = max(most, recorder.connection.buffered_bytes)
        await asyncio.sleep(0)
    assert most <= BOUND_BYTES + SLACK_BYTES
    assert await recorder.until_lost() == (1008, OUTBOX_FULL)


async def test_one_turn_serves_all_sockets() -> None:
    """A frame shared by many connections reaches each of them, once."""
    application = FastLane()
    async with serving(application) as served:
        peers = [await served.peer() for _ in range(50)]
        frame = text_frame(b"to all")
        for recorder in application.recorders:
            recorder.connection.write_frame(frame)
        for peer in peers:
            assert await peer.frame() == (TEXT, b"to all")


async def test_a_socket_lost_within_the_turn_harms_no_other() -> None:
    """A connection that ends between writing and the turn's end leaves the others their frames."""
    application = FastLane()
    async with serving(application) as served:
        peers = [await served.peer() for _ in range(3)]
        for recorder in application.recorders:
            recorder.connection.write_text(b"hello")
        application.recorders[0].connection._transport.abort()
        assert await peers[1].frame() == (TEXT, b"hello")
        assert await peers[2].frame() == (TEXT, b"hello")


@pytest.mark.parametrize("frames_a_turn", [1, 1000])
async def test_a_peer_that_does_not_read_costs_the_bound(
    slow_peer: tuple[Served, Peer, Recorder], frames_a_turn: int
) -> None:
    """Over the bound the connection ends with 1008 "outbox full" and is counted; until then no more than it waits."""
    served, _, recorder = slow_peer
    bystander = await served.peer(context=_context_of(slow_peer[1]))
    closed_before = closings[OUTBOX_FULL]
    connection = recorder.connection
    frame = text_frame(b"x" * 10_000)
    most_bytes = written_bytes = 0
    while not connection.closed and written_bytes < HUGE_BYTES:
        for _ in range(frames_a_turn):
            connection.write_frame(frame)
            written_bytes += len(frame)
            most_bytes = max(most_bytes, connection.buffered_bytes)
        assert not recorder.lost, "the listener is not told from within a write"
        await asyncio.sleep(0)
    assert await recorder.until_lost() == (1008, OUTBOX_FULL)
    assert closings[OUTBOX_FULL] == closed_before + 1
    assert most_bytes <= BOUND_BYTES + SLACK_BYTES
    assert connection.buffered_bytes == 0
    served_peer_connection = next(iter(served.connections))
    served_peer_connection.write_text(b"unharmed")
    assert await bystander.frame() == (TEXT, b"unharmed")


def _context_of(peer: Peer) -> Any:
    return peer.writer.get_extra_info("sslcontext")


async def test_one_frame_over_the_bound() -> None:
    """A single frame that a fast peer can take passes; a rest that waits beyond the bound ends the connection."""
    application = FastLane(max_outbox_bytes=1000)
    async with serving(application) as served:
        peer = await served.peer()
        recorder = application.recorders[0]
        recorder.connection.write_text(b"x" * 5000)
        assert await peer.frame() == (TEXT, b"x" * 5000)
        recorder.connection.write_text(b"x" * (1 << 26))
        assert await recorder.until_lost() == (1008, OUTBOX_FULL)


async def test_a_peer_that_reads_again_gets_everything_in_order(slow_peer: tuple[Served, Peer, Recorder]) -> None:
    """Below the bound nothing is lost, and the listener learns that the socket has drained."""
    _, peer, recorder = slow_peer
    _limit(recorder, HUGE_BYTES)
    connection = recorder.connection
    count = 0
    while not connection.is_slow or connection.buffered_bytes < 1 << 20:
        connection.write_text(b"%06d" % count + b"x" * 9_994)
        count += 1
        await asyncio.sleep(0)
    assert recorder.resumed_count == 0
    peer.resume_reading()
    for number in range(count):
        _, payload = await peer.frame()
        assert payload[:6] == b"%06d" % number
    await until(lambda: recorder.resumed_count > 0, "writing_resumed")
    assert connection.buffered_bytes == 0
    assert not recorder.lost


async def test_closing_a_peer_that_does_not_read(
    slow_peer: tuple[Served, Peer, Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """close() towards a peer that does not read ends after its time-out."""
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT_SECONDS", 0.1)
    served, _, recorder = slow_peer
    _limit(recorder, HUGE_BYTES)
    while recorder.connection.buffered_bytes < 1 << 20:
        recorder.connection.write_text(b"x" * 100_000)
        await asyncio.sleep(0)
    recorder.connection.close(1001, "going")
    assert await recorder.until_lost() == (1001, "going")
    assert not served.connections


async def test_a_half_closed_peer_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that ends its side and reads nothing is dropped after the same time-out, with all waiting frames."""
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT_SECONDS", 0.1)
    application = FastLane(max_outbox_bytes=HUGE_BYTES)
    async with serving(application) as served:
        peer = await served.peer()
        recorder = application.recorders[0]
        peer.pause_reading()
        while recorder.connection.buffered_bytes < 1 << 20:
            recorder.connection.write_text(b"x" * 100_000)
            await asyncio.sleep(0)
        peer.writer.write_eof()
        assert await recorder.until_lost() == (1006, "")


async def test_a_ping_flood_is_bounded(slow_peer: tuple[Served, Peer, Recorder]) -> None:
    """The pongs for a peer that sends pings and never reads count like any frame."""
    _, peer, recorder = slow_peer
    flood = client_frame(9, b"x" * 125) * 500
    sent_bytes = 0
    while not recorder.connection.closed and sent_bytes < HUGE_BYTES:
        peer.writer.write(flood)
        sent_bytes += len(flood)
        await asyncio.sleep(0)
        assert recorder.connection.buffered_bytes <= BOUND_BYTES + SLACK_BYTES
    assert await recorder.until_lost() == (1008, OUTBOX_FULL)


async def test_pongs_come_in_order_with_frames() -> None:
    """A pong takes its place behind earlier frames."""
    application = FastLane()
    async with serving(application) as served:
        peer = await served.peer()
        connection = application.recorders[0].connection
        connection.write_text(b"before")
        connection.data_received(client_frame(9, b"?"))
        connection.write_text(b"behind")
        assert [await peer.frame() for _ in range(3)] == [(TEXT, b"before"), (PONG, b"?"), (TEXT, b"behind")]


async def test_nothing_waits_in_the_process_for_a_peer_that_reads() -> None:
    """buffered_bytes is 0 when the kernel has taken everything."""
    application = FastLane()
    async with serving(application) as served:
        peer = await served.peer()
        connection = application.recorders[0].connection
        connection.write_text(b"x" * 1000)
        assert connection.buffered_bytes == 1004
        assert await peer.frame() == (TEXT, b"x" * 1000)
        assert connection.buffered_bytes == 0


async def test_what_waits_behind_a_long_write_is_counted_apart() -> None:
    """A replay as long as the bound does not use it up: live messages still fit behind it."""
    application = FastLane(max_outbox_bytes=20_000_000)
    async with serving(application) as served:
        peer = await served.peer()
        peer.pause_reading()
        recorder = application.recorders[0]
        connection = recorder.connection
        connection.write_text(b"x" * 19_000_000)
        await asyncio.sleep(0)
        assert connection.is_slow
        connection.write_text(b"y" * 10_000_000)
        await asyncio.sleep(0)
        assert not connection.closed
        connection.write_text(b"z" * 15_000_000)
        assert await recorder.until_lost() == (1008, OUTBOX_FULL)


async def test_a_peer_that_was_slow_before_it_upgraded() -> None:
    """A client that has left an answer unread on the connection that it upgrades is bounded from the first frame."""
    lane = FastLane(max_outbox_bytes=BOUND_BYTES)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await lane(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"20000000")]})
        await send({"type": "http.response.body", "body": b"x" * 20_000_000})

    async with serving(application) as served:
        peer = await served.socket()
        peer.pause_reading()
        peer.writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: any(c.transport.get_write_buffer_size() for c in served.connections), "the answer")
        peer.request("/")
        await until(lambda: bool(lane.recorders), "the upgrade")
        recorder = lane.recorders[0]
        assert recorder.connection.is_slow
        recorder.connection.write_text(b"x")
        assert await recorder.until_lost() == (1008, OUTBOX_FULL)
