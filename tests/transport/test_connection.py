"""RFC 6455 over a socket: messages, fragments, control frames, breaches, the closing handshake.

Autobahn's suite proves the same from outside: tests/transport/autobahn.sh.
"""

import asyncio
import gc
import itertools
import sys
import weakref

import pytest

from app.transport import connection as connection_module
from tests.support.waiting import until
from tests.transport.serving import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    FastLane,
    Served,
    client_frame,
    close_payload,
    serving,
)


async def _only_recorder(application: FastLane, served: Served):  # type: ignore[no-untyped-def]
    peer = await served.peer()
    return peer, application.recorders[-1]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000])
async def test_messages_of_every_length_form(size: int) -> None:
    """Text and binary messages arrive whole, whatever the form of their length."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        payload = b"0123456789" * (size // 10) + b"x" * (size % 10)
        peer.send(TEXT, payload)
        peer.send(BINARY, payload)
        assert await recorder.until_received(2) == [payload, ("binary", payload)]


async def test_a_byte_at_a_time() -> None:
    """How the network cuts the bytes makes no difference."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        data = (
            client_frame(TEXT, b"short")
            + client_frame(TEXT, "ünïcode".encode())
            + client_frame(BINARY, bytes(range(200)))
            + client_frame(PING, b"?")
            + client_frame(TEXT, b"in ", fin=False)
            + client_frame(CONTINUATION, b"two")
        )
        for index in range(len(data)):
            recorder.connection.data_received(data[index : index + 1])
        assert recorder.received == [b"short", "ünïcode".encode(), ("binary", bytes(range(200))), b"in two"]
        assert await peer.frame() == (PONG, b"?")


async def test_many_frames_in_one_read() -> None:
    """Frames that come together are handed over one by one, in order."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        texts = [f"message {number}".encode() for number in range(2000)]
        peer.writer.write(b"".join(client_frame(TEXT, text) for text in texts))
        assert await recorder.until_received(2000) == texts


async def test_others_have_their_turn_between_many_frames() -> None:
    """At most 64 frames of one connection are worked off in a turn; the rest follows in order, reading is paused."""
    application = FastLane()
    async with serving(application) as served:
        _peer, recorder = await _only_recorder(application, served)
        loop = asyncio.get_running_loop()
        seen: list[int] = []

        def another() -> None:
            seen.append(len(recorder.received))
            if seen[-1] < 1000:
                loop.call_soon(another)

        loop.call_soon(another)
        texts = [f"{number}".encode() for number in range(1000)]
        recorder.connection.data_received(b"".join(client_frame(TEXT, text) for text in texts))
        assert len(recorder.received) == 64
        assert not recorder.connection._transport.is_reading()
        await recorder.until_received(1000)
        await asyncio.sleep(0)
        assert recorder.received == texts
        assert max(after - before for before, after in itertools.pairwise(seen)) <= 64
        assert recorder.connection._transport.is_reading()
        assert recorder.connection._parser is None


async def test_others_have_their_turn_between_full_reads() -> None:
    """A full read pauses reading until the next turn, since a loop reads a fast socket many times in one."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        text = b"x" * 100_000
        frame = client_frame(TEXT, text)
        for piece in (frame[:70_000], frame[70_000:] + frame):
            recorder.connection.data_received(piece)
            assert not recorder.connection._transport.is_reading()
            await until(recorder.connection._transport.is_reading, "the next turn")
        assert recorder.received == [text, text]
        peer.writer.write(frame)
        await recorder.until_received(3)


def _flood(count: int, behind: bytes = b"") -> bytes:
    return b"".join(client_frame(TEXT, b"%d" % number) for number in range(count)) + behind


async def test_the_close_frame_behind_a_flood() -> None:
    """A close frame behind many frames closes once they are worked off."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        peer.writer.write(_flood(500, client_frame(CLOSE, close_payload(1000, "bye")) + _flood(500)))
        assert await peer.closing() == (1000, "bye")
        assert await recorder.until_lost() == (1000, "bye")
        assert len(recorder.received) == 500


async def test_leaving_within_a_flood() -> None:
    """A connection that leaves passes the rest of a read on; one that closes or is aborted drops it."""
    application = FastLane()
    async with serving(application) as served:
        for end, expected in (("leave", 500), ("close", 64), ("abort", 64)):
            peer, recorder = await _only_recorder(application, served)
            recorder.connection.data_received(_flood(500))
            getattr(recorder.connection, end)()
            if end != "abort":
                assert (await peer.frame())[0] == CLOSE
                peer.send(CLOSE, close_payload(1000))
            assert await peer.end() == b""
            await recorder.until_lost()
            assert len(recorder.received) == expected


async def test_a_breach_within_a_flood() -> None:
    """A breach in the rest closes with its code, and the peer that goes on sending reads that."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        peer.writer.write(_flood(300, client_frame(TEXT, b"", masked=False) + _flood(100_000)))
        assert (await peer.closing())[0] == 1002
        assert await recorder.until_lost()
        assert len(recorder.received) == 300


async def test_a_listener_that_pauses_holds_the_rest() -> None:
    """A listener that pauses reading gets no more than the turn's frames until it resumes."""
    application = FastLane()
    async with serving(application) as served:
        _peer, recorder = await _only_recorder(application, served)
        recorder.on_text = lambda payload: recorder.connection.pause_reading() if payload == b"100" else None
        recorder.connection.data_received(_flood(500))
        await recorder.until_received(101)
        received = len(recorder.received)
        for _ in range(5):
            await asyncio.sleep(0)
        # A slow turn makes the next one smaller.
        assert len(recorder.received) == received <= 100 + 64
        assert not recorder.connection._transport.is_reading()
        recorder.connection.resume_reading()
        await recorder.until_received(500)
        await until(recorder.connection._transport.is_reading, "reading")


@pytest.mark.parametrize("begun", ["half a frame", "half a message", "a rest"])
async def test_a_lost_connection_frees_what_it_received(begun: str) -> None:
    """Half a frame, half a message and the rest of a read are freed at the end, without the garbage collector."""
    data = {
        "half a frame": client_frame(BINARY, bytes(900_000))[:-1],
        "half a message": client_frame(BINARY, bytes(900_000), fin=False),
        "a rest": _flood(70) + client_frame(BINARY, bytes(900_000)),
    }[begun]
    application = FastLane()
    async with serving(application) as served:
        _peer, recorder = await _only_recorder(application, served)
        gc.collect()
        gc.disable()
        try:
            recorder.connection.data_received(data)
            parser = weakref.ref(recorder.connection._parser) if recorder.connection._parser else lambda: None
            fragments = recorder.connection._fragments
            payload = fragments.payload if fragments else bytearray()
            del fragments
            recorder.connection.abort()
            await recorder.until_lost()
            assert parser() is None
            assert recorder.connection._fragments is None
            assert sys.getrefcount(payload) == 2
        finally:
            gc.enable()


async def test_fragments_with_a_ping_between() -> None:
    """A message in pieces is put together; control frames between its pieces are served at once."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        # The cut goes through a character: only the whole must be UTF-8.
        text = "héllo".encode()
        peer.send(TEXT, text[:2], fin=False)
        peer.send(PING, b"still there?")
        peer.send(CONTINUATION, b"", fin=False)
        assert await peer.frame() == (PONG, b"still there?")
        peer.send(CONTINUATION, text[2:])
        peer.send(BINARY, b"\xff", fin=False)
        peer.send(CONTINUATION, b"\xfe")
        assert await recorder.until_received(2) == [text, ("binary", b"\xff\xfe")]


async def test_pongs_are_taken_silently() -> None:
    """An unasked pong is no message and no error."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        peer.send(PONG, b"unasked")
        peer.send(TEXT, b"next")
        assert await recorder.until_received(1) == [b"next"]


BREACHES = {
    "unmasked": (client_frame(TEXT, b"a", masked=False), 1002),
    "reserved bit 1": (client_frame(TEXT, b"a", rsv=4), 1002),
    "reserved bit 2": (client_frame(BINARY, b"a", rsv=2), 1002),
    "reserved bit 3 of a ping": (client_frame(PING, b"a", rsv=1), 1002),
    "unknown data opcode": (client_frame(3, b"a"), 1002),
    "unknown control opcode": (client_frame(11, b"a"), 1002),
    "fragmented ping": (client_frame(PING, b"a", fin=False), 1002),
    "long ping": (client_frame(PING, b"a" * 126), 1002),
    "continuation of nothing": (client_frame(CONTINUATION, b"a"), 1002),
    "text within a message": (client_frame(TEXT, b"a", fin=False) + client_frame(TEXT, b"b"), 1002),
    "16 bits for a short length": (b"\x81\xfe\x00\x01" + b"\0" * 5, 1002),
    "64 bits for a medium length": (b"\x81\xff" + (200).to_bytes(8, "big") + b"\0" * 204, 1002),
    "text that is not UTF-8": (client_frame(TEXT, b"\xc3("), 1007),
    "fragments that are not UTF-8": (
        client_frame(TEXT, b"\xc3", fin=False) + client_frame(CONTINUATION, b"("),
        1007,
    ),
    "a frame over the limit": (client_frame(BINARY, b"a" * 1001), 1009),
    "only the header of a frame over the limit": (client_frame(TEXT, b"a" * 100_000)[:14], 1009),
    "fragments over the limit": (
        client_frame(TEXT, b"a" * 600, fin=False) + client_frame(CONTINUATION, b"a" * 600, fin=False),
        1009,
    ),
    "a close frame of one byte": (client_frame(CLOSE, b"\x03"), 1002),
    "close code 1005": (client_frame(CLOSE, close_payload(1005)), 1002),
    "close code 1006": (client_frame(CLOSE, close_payload(1006)), 1002),
    "close code 0": (client_frame(CLOSE, close_payload(0)), 1002),
    "close code 2999": (client_frame(CLOSE, close_payload(2999)), 1002),
    "close code 5000": (client_frame(CLOSE, close_payload(5000)), 1002),
    "a close reason that is not UTF-8": (client_frame(CLOSE, close_payload(1000) + b"\xff"), 1007),
}


@pytest.mark.parametrize("name", BREACHES)
async def test_breaches(name: str) -> None:
    """Each breach of the protocol gets its close code; messages before it count, messages behind it do not."""
    data, code = BREACHES[name]
    application = FastLane(max_message_bytes=1000)
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        peer.writer.write(client_frame(TEXT, b"before") + data + client_frame(TEXT, b"behind"))
        assert (await peer.closing())[0] == code
        assert (await recorder.until_lost())[0] == code
        assert recorder.received == [b"before"]
        assert not served.connections


async def test_bytes_behind_a_breach_do_not_destroy_the_close_frame() -> None:
    """A peer that goes on sending still reads why it was closed."""
    application = FastLane(max_message_bytes=1000)
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        peer.send(BINARY, b"a" * 2_000_000)
        assert (await peer.closing())[0] == 1009
        assert (await recorder.until_lost())[0] == 1009


@pytest.mark.parametrize(
    ("payload", "expected", "answer"),
    [
        (close_payload(1000, "bye"), (1000, "bye"), (1000, "bye")),
        (close_payload(4321), (4321, ""), (4321, "")),
        (b"", (1005, ""), (1005, "")),
    ],
)
async def test_the_peer_closes(payload: bytes, expected: tuple[int, str], answer: tuple[int, str]) -> None:
    """A close frame is answered with itself, and the listener learns code and reason."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        peer.send(CLOSE, payload)
        peer.send(TEXT, b"too late")
        assert await peer.closing() == answer
        assert await recorder.until_lost() == expected
        assert recorder.received == []
        assert recorder.connection.closed


async def test_we_close() -> None:
    """close() sends the waiting frames, then its code and reason; the socket ends with the peer's answer."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        recorder.connection.write_text(b"last words")
        recorder.connection.close(4000, "enough")
        assert recorder.connection.closed
        recorder.connection.write_text(b"never")
        recorder.connection.close(4001, "once only")
        assert await peer.frame() == (TEXT, b"last words")
        assert await peer.frame() == (CLOSE, close_payload(4000, "enough"))
        assert not recorder.lost
        peer.send(TEXT, b"crossed the close frame")
        peer.send(CLOSE, close_payload(4000))
        assert await peer.end() == b""
        assert await recorder.until_lost() == (4000, "enough")
        assert recorder.received == []


async def test_we_close_and_the_peer_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The closing handshake has a time-out, behind which the socket is dropped."""
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT_SECONDS", 0.05)
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        recorder.connection.close(1001)
        assert await recorder.until_lost() == (1001, "")
        assert await peer.frame() == (CLOSE, close_payload(1001))


async def test_the_peer_vanishes() -> None:
    """A socket that ends without a close frame is lost with 1006."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        peer.close()
        assert await recorder.until_lost() == (1006, "")
        recorder.connection.write_text(b"nobody")
        recorder.connection.close()
        recorder.connection.abort()
        assert recorder.connection.buffered_bytes == 0


async def test_abort() -> None:
    """abort() drops the socket now: no close frame, and the listener hears of it once, later."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        recorder.connection.write_text(b"never leaves")
        recorder.connection.abort()
        assert recorder.connection.closed
        assert not recorder.lost
        assert await recorder.until_lost() == (1006, "")
        assert await peer.end() == b""


async def test_a_failing_listener_closes_its_own_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    """An exception in a listener is logged and closes with 1011."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        bystander, other = await _only_recorder(application, served)

        def fail(_payload: bytes) -> None:
            raise ZeroDivisionError

        recorder.on_text = fail
        peer.send(TEXT, b"short")
        opcode, payload = await peer.frame()
        assert (opcode, payload) == (CLOSE, close_payload(1011))
        peer.close()
        await recorder.until_lost()
        assert "ZeroDivisionError" in caplog.text
        bystander.send(TEXT, b"unharmed")
        assert await other.until_received(1) == [b"unharmed"]


async def test_an_idle_connection_holds_no_parser() -> None:
    """A parser is held only while a frame is unfinished; then all connections share a few."""
    application = FastLane()
    async with serving(application) as served:
        peers = [await served.peer() for _ in range(30)]
        data = client_frame(TEXT, "ünfinished".encode())
        for recorder in application.recorders:
            recorder.connection.data_received(data[:9])
            assert recorder.connection._parser is not None
        for recorder in application.recorders:
            recorder.connection.data_received(data[9:])
            assert recorder.connection._parser is None
            assert recorder.received == ["ünfinished".encode()]
        peers[0].close()


async def test_shutdown_of_the_server() -> None:
    """uvicorn's shutdown closes with 1012, waits for the peers' answers, and holds the connections meanwhile."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        assert served.connections == {recorder.connection}
        for held in list(served.connections):
            held.shutdown()
        assert await peer.frame() == (CLOSE, close_payload(1012))
        assert served.connections == {recorder.connection}
        peer.send(CLOSE, close_payload(1012))
        assert await recorder.until_lost() == (1012, "")
        assert not served.connections


async def test_leaving_reads_on() -> None:
    """Behind our close frame the messages that the peer had already sent still arrive, up to its own close frame."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        recorder.connection.leave(1001, "bye")
        assert recorder.connection.closed
        recorder.connection.write_text(b"too late")
        peer.send(TEXT, b"on its way")
        peer.send(BINARY, b"this too")
        assert await peer.frame() == (CLOSE, close_payload(1001, "bye"))
        peer.send(CLOSE, close_payload(1001))
        peer.send(TEXT, b"behind its close")
        assert await recorder.until_lost() == (1001, "bye")
        assert recorder.received == [b"on its way", ("binary", b"this too")]


async def test_closing_reads_no_more() -> None:
    """Messages behind an ordinary close are dropped."""
    application = FastLane()
    async with serving(application) as served:
        peer, recorder = await _only_recorder(application, served)
        recorder.connection.close()
        peer.send(TEXT, b"on its way")
        assert await peer.frame() == (CLOSE, close_payload(1000))
        peer.send(CLOSE, close_payload(1000))
        await recorder.until_lost()
        assert recorder.received == []


async def test_no_task_and_no_timer_in_steady_state() -> None:
    """An open connection has neither a task nor a timer of its own."""
    application = FastLane()
    async with serving(application) as served:
        before = len(asyncio.all_tasks())
        peers = [await served.peer() for _ in range(10)]
        peers[3].send(TEXT, b"hello")
        await application.recorders[3].until_received(1)
        assert len(asyncio.all_tasks()) == before
        assert all(recorder.connection._close_timer is None for recorder in application.recorders)
        assert not served.server.server_state.tasks
