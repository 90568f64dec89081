"""The Engine.IO server over real HTTP and WebSockets, under uvicorn with our protocol classes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import AsyncIterator

import aiohttp
import pytest

from app.core import draining
from app.socketio import engine_polling, engine_posted, engine_server
from app.socketio.engine_packet import EncodedPacket
from app.socketio.engine_ports import EngineSettings
from app.socketio.engine_request import Handshake
from app.socketio.engine_server import EngineServer
from app.socketio.engine_session import EngineSession
from app.socketio.repeats import Repeats
from app.transport.refusals import TOO_MANY_PACKETS, refused
from tests.socketio.engine_client import Answer, EngineClient, Socket
from tests.support.waiting import until
from tests.transport.serving import serving

ORIGIN = "https://www.example.com"
MAX_PAYLOAD_BYTES = 10_000
#: Clients 1.0 compare the type of binary framing as a whole.
TYPES = {4: "text/plain; charset=UTF-8", 3: "application/octet-stream"}
versions = pytest.mark.parametrize("version", [4, 3])


class Echo:
    """Sends back the messages of one session."""

    def __init__(self, session: EngineSession) -> None:
        self.session = session
        self.reasons: list[str] = []
        self.messages: list[bytes] = []

    def session_started(self) -> None:
        """Nothing to say."""

    def message_received(self, packet: bytes) -> None:
        """Send the text back."""
        self.messages.append(packet)
        self.session.send_encoded(EncodedPacket(packet))

    def binary_received(self, data: bytes) -> None:
        """Send the bytes back."""
        self.session.send_binary(data)

    def sender_changed(self) -> None:
        """Nothing to do."""

    def session_closed(self, reason: str) -> None:
        """Remember the reason."""
        self.reasons.append(reason)


class EchoServer:
    """An Engine.IO server, its sessions' listeners in order, and a client."""

    def __init__(self, settings: EngineSettings, repeats: Repeats | None = None) -> None:
        self.listeners: list[Echo] = []
        self.handshakes: list[Handshake] = []
        self.engine = EngineServer(self.open_session, settings, repeats=repeats)
        self.client: EngineClient
        self.port = 0

    def open_session(self, session: EngineSession, handshake: Handshake) -> Echo:
        """Give a session its listener."""
        self.handshakes.append(handshake)
        self.listeners.append(Echo(session))
        return self.listeners[-1]

    async def until_closed(self, reason: str) -> None:
        """Wait until the last session is closed, for this reason."""
        await until(lambda: bool(self.listeners[-1].reasons), "the close")
        assert self.listeners[-1].reasons == [reason]


@contextlib.asynccontextmanager
async def echo(
    version: int = 4,
    readable_origins: list[str] | None = None,
    max_outbox_bytes: int = 100_000,
    repeats: Repeats | None = None,
) -> AsyncIterator[EchoServer]:
    """Serve an echo and give it a client."""
    server = EchoServer(
        EngineSettings(
            max_payload_bytes=MAX_PAYLOAD_BYTES, readable_origins=readable_origins, max_outbox_bytes=max_outbox_bytes
        ),
        repeats,
    )
    async with (
        serving(server.engine.asgi, interface="asgi3", access_log=False) as served,
        EngineClient(served.port, version, "/") as client,
    ):
        server.client = client
        server.port = served.port
        yield server
        await server.engine.shutdown()


def assert_refused(answer: Answer, status: int, code: int, message: str) -> None:
    """The answer is the protocol's error."""
    assert (answer.status, answer.error) == (status, {"code": code, "message": message})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "query", "code", "message"),
    [
        ("GET", "EIO=4", 0, "Transport unknown"),
        ("GET", "EIO=4&transport=abc", 0, "Transport unknown"),
        ("GET", "", 0, "Transport unknown"),
        ("GET", "EIO=4&transport=polling&sid=abc", 1, "Session ID unknown"),
        ("POST", "EIO=4&transport=polling&sid=abc", 1, "Session ID unknown"),
        ("POST", "EIO=4&transport=polling", 2, "Bad handshake method"),
        ("PUT", "EIO=4&transport=polling", 2, "Bad handshake method"),
        ("GET", "EIO=4&transport=websocket", 3, "Bad request"),
        ("GET", "EIO=5&transport=polling", 5, "Unsupported protocol version"),
        ("GET", "transport=polling", 5, "Unsupported protocol version"),
    ],
)
async def test_refusals(method: str, query: str, code: int, message: str) -> None:
    """A request that cannot be served is refused with the protocol's code and message."""
    async with echo() as server:
        assert_refused(await server.client.request(method, query), 400, code, message)
        assert not server.engine.sessions


async def test_refusals_of_a_known_session() -> None:
    """Another method or transport than the session's is a bad request, and leaves the session as it is."""
    async with echo() as server:
        sid = await server.client.open()
        assert_refused(await server.client.request("PUT", f"transport=polling&sid={sid}"), 400, 3, "Bad request")
        assert_refused(await server.client.request("GET", f"transport=websocket&sid={sid}"), 400, 3, "Bad request")
        assert (await server.client.post(sid, "4a")).status == 200


@pytest.mark.parametrize(
    "query", ["", "EIO=4", "EIO=4&transport=polling", "transport=websocket", "EIO=4&transport=websocket&sid=x"]
)
async def test_refused_websockets(query: str) -> None:
    """A WebSocket that cannot be served is refused before it opens."""
    async with echo() as server:
        assert await server.client.refusal_of_socket(query) == 400


@versions
async def test_headers(version: int) -> None:
    """No cache may keep a payload. It is text, or binary for a version 3 client that does not ask for text."""
    async with echo(version) as server:
        answer = await server.client.request("GET", f"EIO={version}&transport=polling")
        text = await server.client.request("GET", f"EIO={version}&transport=polling&b64=1")
    assert answer.headers["content-type"] == TYPES[version]
    assert text.headers["content-type"] == "text/plain; charset=UTF-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers


async def test_jsonp() -> None:
    """JSONP polling answers with a script and takes its payload from a form."""
    async with echo(3) as server:
        opened = await server.client.request("GET", "EIO=3&transport=polling&j=0")
        assert opened.body.startswith(b'___eio[0]("')
        sid = server.listeners[-1].session.sid
        form = {"content-type": "application/x-www-form-urlencoded"}
        assert (await server.client.post(sid, "d=3%3A4%22a6%3Ab4AQID", "&j=0", headers=form)).body == b"ok"
        answer = await server.client.poll(sid, "&j=0")
    assert answer.body == b'___eio[0]("3:4\\"a6:b4AQID");'
    assert answer.headers["content-type"] == "text/javascript; charset=UTF-8"


async def test_binary_post_of_version_3() -> None:
    """A body in binary framing is read when its type says so."""
    async with echo(3) as server:
        sid = await server.client.open(reads_binary=True)
        body = b"\x00\x03\xff4hi\x01\x03\xff\x04\x01\x02"
        octets = {"content-type": "application/octet-stream"}
        assert (await server.client.post(sid, body, headers=octets)).status == 200
        assert (await server.client.poll(sid)).body == body


async def test_any_origin() -> None:
    """Without a list the origin is echoed, with credentials, and preflights are answered."""
    async with echo() as server:
        headers = {"origin": ORIGIN}
        answer = await server.client.request("GET", "EIO=4&transport=polling", headers=headers)
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["vary"] == "origin"
        refused = await server.client.request("GET", "", headers=headers)
        assert refused.headers["access-control-allow-origin"] == ORIGIN, "or the page could not read why"
        preflight = {**headers, "access-control-request-headers": "x-a", "access-control-request-method": "POST"}
        answer = await server.client.request("OPTIONS", "EIO=4&transport=polling", headers=preflight)
        assert answer.status == 200
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == "x-a"


async def test_listed_origins() -> None:
    """With a list only pages of these origins may read an answer; whether a page may join is its site's to say."""
    async with echo(readable_origins=[ORIGIN]) as server:
        query = "EIO=4&transport=polling"
        answer = await server.client.request("GET", query, headers={"origin": ORIGIN})
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["x-content-type-options"] == "nosniff"
        other = await server.client.request("GET", query, headers={"origin": "https://evil.example"})
        assert other.status == 200
        assert "access-control-allow-origin" not in other.headers
        assert "access-control-allow-credentials" not in other.headers


async def test_foreign_origin_of_a_joined_session() -> None:
    """A session that has joined a site with `origins` takes no request of another page, and goes on."""
    async with echo() as server:
        sid = await server.client.open()
        session = server.engine.sessions[sid]
        assert session.allow_origins([ORIGIN])
        evil = {"origin": "https://evil.example"}
        assert_refused(await server.client.post(sid, "4a", headers=evil), 403, 4, "Forbidden")
        refused = await server.client.refusal_of_socket(
            f"EIO=4&transport=websocket&sid={sid}", origin="https://evil.example"
        )
        assert refused == 403
        assert (await server.client.post(sid, "4a", headers={"origin": ORIGIN})).status == 200
        assert server.listeners[-1].reasons == []


async def test_version_2_is_served_as_3() -> None:
    """Clients of 1.0 name version 2, which is version 3 as far as it is served here."""
    async with echo(2) as server:
        sid = await server.client.open()
        assert server.engine.sessions[sid].version == 3
        assert (await server.client.post(sid, "2:4a")).status == 200
        assert (await server.client.poll(sid)).body == b"\x00\x02\xff4a"


@versions
async def test_repeated_handshakes_are_slowed_down(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that shakes hands again and again without coming back is answered late, at most so many at once; each
    client that comes back makes room for another."""
    monkeypatch.setattr("app.socketio.repeats.MAX_HELD", 1)
    repeats = Repeats(free=1, a_second=1e-6, pause_seconds=1.0)
    async with echo(version, repeats=repeats) as server:
        first, _ = await server.client.open(), await server.client.open()
        late = asyncio.create_task(server.client.open())
        await until(lambda: repeats.held == 1, "the late answer")
        assert len(server.listeners) == 2
        refused_at_once = await server.client.request("GET", f"EIO={version}&transport=polling")
        assert_refused(refused_at_once, 429, 3, "Too many connections")
        await late
        for sid in (first, await late, first):
            assert (await server.client.post(sid, server.client.payload("4a"))).status == 200
        prompt = asyncio.create_task(server.client.open())
        held = await until(lambda: repeats.held or prompt.done(), "an answer, or a pause before it")
        assert held is True
        await prompt


async def test_client_that_leaves_while_it_is_slowed_down() -> None:
    """No session is opened for a client that did not wait for its late answer."""
    repeats = Repeats(free=0, a_second=1e-6, pause_seconds=5.0)
    async with echo(repeats=repeats) as server:
        await server.client.open()
        late = asyncio.create_task(server.client.open())
        await until(lambda: repeats.held == 1, "the late answer")
        late.cancel()
        await until(lambda: repeats.held == 0, "the server to notice")
        assert len(server.listeners) == 1


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_large_post(is_chunked: bool) -> None:
    """A body over maxPayload is refused with 413 and ends the session, whether its length is told or not."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"4" * 1_000

    async with echo() as server:
        sid = await server.client.open()
        body = chunks() if is_chunked else b"4" * (MAX_PAYLOAD_BYTES + 1)
        answer = await server.client.request("POST", f"EIO=4&transport=polling&sid={sid}", data=body)
        assert answer.status == 413
        await server.until_closed("transport error")
        sid = await server.client.open()
        assert (await server.client.post(sid, b"4" * MAX_PAYLOAD_BYTES)).status == 200


async def test_large_message() -> None:
    """A WebSocket message over maxPayload ends the session."""
    async with echo() as server, server.client.socket() as websocket:
        await websocket.receive()
        await websocket.send("4" * (MAX_PAYLOAD_BYTES + 1))
        assert await websocket.closed() == 1009
        await server.until_closed("transport close")


async def test_others_have_their_turn_within_a_post() -> None:
    """The packets of one POST are worked off in slices: between them the loop serves others."""
    async with echo() as server:
        sid = await server.client.open()
        session, listener = server.engine.sessions[sid], server.listeners[-1]
        session.limit_message(100_000)
        heard: list[int] = []
        look_again = True

        def look() -> None:
            heard.append(len(listener.messages))
            if look_again:
                asyncio.get_running_loop().call_soon(look)

        look()
        assert (await server.client.post(sid, "\x1e".join(["4a"] * 500))).status == 200
        look_again = False
        assert len(listener.messages) == 500
        assert max(after - before for before, after in itertools.pairwise(heard)) <= 64


@versions
async def test_upgrade_within_a_post(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A WebSocket that takes the session over while a POST is worked off waits for its last packet: others have their
    turns meanwhile, and its own packets, read in one piece with its 5, follow in order."""
    monkeypatch.setattr(engine_posted, "TURN_SECONDS", 0)
    async with echo(version) as server:
        client = server.client
        sid = await client.open()
        server.engine.sessions[sid].limit_message(100_000)
        async with client.upgrade(sid) as websocket:
            await websocket.send("2probe")
            assert await websocket.receive() == "3probe"
            packets = [f"4{number}" for number in range(500)]
            post = asyncio.ensure_future(client.post(sid, client.payload(*packets)))
            session = server.engine.sessions[sid]
            await until(lambda: session.posted is not None, "the POST")
            await websocket.send("5")
            for number in range(500, 600):
                await websocket.send(f"4{number}")
            assert (await post).status == 200
            await until(lambda: len(server.listeners[0].messages) == 600, "the packets")
        assert server.listeners[0].messages == [b"4%d" % number for number in range(600)]


async def test_too_many_packets() -> None:
    """A POST of more packets than allowed is refused, ends the session with a reason of its own and is counted."""
    before = refused[TOO_MANY_PACKETS]
    async with echo() as server:
        sid = await server.client.open()
        server.engine.sessions[sid].limit_message(100_000)
        assert (await server.client.post(sid, "\x1e".join(["6"] * 513))).status == 400
        await server.until_closed("too many packets")
    assert refused[TOO_MANY_PACKETS] == before + 1


@versions
async def test_fetched_packets_may_be_answered_at_once(version: int) -> None:
    """A payload may hold one packet more for each message that the client has fetched since; each counts once."""
    before = refused[TOO_MANY_PACKETS]
    async with echo(version=version) as server:
        sid = await server.client.open()
        session = server.engine.sessions[sid]
        session.limit_message(100_000)
        session.limit_outbox(1_000_000)
        for number in range(1_500):
            session.send_encoded(EncodedPacket(b"42[%d]" % number))
        # A pong asks for no answer.
        session.send_encoded(EncodedPacket(b"3"))
        await server.client.poll(sid)
        assert (await server.client.post(sid, server.client.payload(*["6"] * 2012))).status == 200
        assert (await server.client.post(sid, server.client.payload(*["6"] * 513))).status == 400
        await server.until_closed("too many packets")
    assert refused[TOO_MANY_PACKETS] == before + 1


async def test_two_posts_at_once() -> None:
    """A POST beside one that is still being sent ends the session: their order would be unknown."""
    async with echo() as server:
        sid = await server.client.open()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST /?transport=polling&sid={sid} HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n4a"
        writer.write(head.encode())
        await until(lambda: server.listeners[-1].session.is_posting, "the first POST")
        assert (await server.client.post(sid, "4b")).status == 400
        await server.until_closed("transport error")
        writer.write(b"bc")
        assert b"400" in await reader.readline()
        writer.close()


async def test_a_post_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A POST whose body stops is answered 408 at its deadline, and ends the session."""
    monkeypatch.setattr(engine_polling, "BODY_TIMEOUT_SECONDS", 0.05)
    async with echo() as server:
        sid = await server.client.open()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST /?transport=polling&sid={sid} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n4"
        writer.write(head.encode())
        assert b"408" in await asyncio.wait_for(reader.readline(), 30)
        await server.until_closed("transport error")
        writer.close()


async def test_the_first_subprotocol_is_answered() -> None:
    """A browser that offers subprotocols fails the connection unless one of them is answered."""
    async with echo() as server, server.client.socket(protocols=("my-proto-v1", "other")) as websocket:
        await websocket.receive()
        assert websocket.websocket.protocol == "my-proto-v1"


async def test_client_gone_within_a_post() -> None:
    """A client that goes away in the middle of a POST is gone."""
    async with echo() as server:
        sid = await server.client.open()
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"POST /?transport=polling&sid={sid} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n4a".encode())
        await until(lambda: server.listeners[-1].session.is_posting, "the POST")
        writer.close()
        await server.until_closed("transport close")


@versions
async def test_random_bytes(version: int, caplog: pytest.LogCaptureFixture) -> None:
    """Any bytes of a client, over either transport, are answered with a 4xx at worst, and nothing is logged."""
    source = random.Random(version)
    async with echo(version) as server:
        for _ in range(60):
            body = source.randbytes(source.randrange(1, 40))
            kind = source.choice(["text/plain;charset=UTF-8", "application/octet-stream"])
            sid = await server.client.open()
            answer = await server.client.post(sid, body, source.choice(["", "&j=0"]), headers={"content-type": kind})
            assert answer.status in (200, 400)
            async with server.client.socket() as websocket:
                await websocket.receive()
                with contextlib.suppress(ConnectionError):
                    await websocket.send(body)
                    await websocket.send(body.decode("latin-1"))
            query = source.randbytes(20).hex() + "%ff&EIO=%e9&transport=polling&sid=%00"
            assert (await server.client.request("GET", query)).status == 400
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_token_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    """No part of the query reaches a log line at any level, in any failure."""
    caplog.set_level(logging.DEBUG)
    token = "s3cret-t0ken"
    async with echo() as server:
        sid = await server.client.open(f"&token={token}")
        await server.client.post(sid, "xad", f"&token={token}")
        await server.client.request("PUT", f"EIO=9&token={token}")
        async with server.client.socket(f"EIO=4&transport=websocket&token={token}") as websocket:
            await websocket.send("xad")
            await websocket.closed()
        assert token not in repr(server.handshakes)
    assert token not in caplog.text


async def test_no_task_per_websocket() -> None:
    """On the fast lane a session leaves no task behind, and all of them together one timer."""
    async with echo() as server, contextlib.AsyncExitStack() as stack:
        websocket = await stack.enter_async_context(server.client.socket())
        await websocket.receive()
        before = len(asyncio.all_tasks())
        for _ in range(20):
            websocket = await stack.enter_async_context(server.client.socket())
            await websocket.receive()
        await until(lambda: len(asyncio.all_tasks()) <= before, "the end of the handshakes' tasks")
        assert len(server.engine.heartbeats) == 21


async def test_slow_poller_is_closed() -> None:
    """A polling client that does not fetch costs no more than the bound, and is then closed and counted."""
    async with echo(max_outbox_bytes=2_000) as server:
        await server.client.open()
        session = server.listeners[-1].session
        for _ in range(100):
            session.send_encoded(EncodedPacket(b"4" * 100))
        await server.until_closed("outbox full")
        assert server.engine.outbox_full_total == 1


async def test_slow_websocket_is_closed() -> None:
    """A WebSocket client that does not read is closed with the same reason, and counted."""
    async with echo(max_outbox_bytes=2_000) as server, server.client.socket() as websocket:
        await websocket.receive()
        session = server.listeners[-1].session
        packet = EncodedPacket(b"4" * 1_000_000)
        for _ in range(100):
            session.send_encoded(packet)
            await asyncio.sleep(0)
        await server.until_closed("outbox full")
        assert server.engine.outbox_full_total == 1


async def test_shutdown() -> None:
    """At the end every session is closed, a waiting poll answered, a WebSocket closed."""
    async with echo() as server, server.client.socket() as websocket:
        await websocket.receive()
        sid = await server.client.open()
        poll = asyncio.ensure_future(server.client.poll(sid))
        mailbox = server.listeners[-1].session.mailbox
        assert mailbox is not None
        await until(lambda: mailbox.has_waiting_poll, "the poll")
        await server.engine.shutdown()
        assert (await poll).body == b"1"
        await websocket.closed()
        assert not server.engine.sessions
        assert len(server.engine.heartbeats) == 0


@versions
async def test_release_of_a_poll(version: int) -> None:
    """A poll that is released is answered with a noop, in the framing of its version; an unknown session has none."""
    async with echo(version) as server:
        sid = await server.client.open()
        poll = asyncio.ensure_future(server.client.poll(sid))
        mailbox = server.listeners[-1].session.mailbox
        assert mailbox is not None
        await until(lambda: mailbox.has_waiting_poll, "the poll")
        server.engine.release_poll("nobody's")
        server.engine.release_poll(sid)
        assert (await poll).body == {3: b"1:6", 4: b"6"}[version]
        assert (await server.client.request("DELETE", f"EIO={version}&transport=polling&sid={sid}")).status == 400
        assert sid in server.engine.sessions


async def test_drain_refuses_new_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that drains refuses handshakes with 503 and Retry-After, and still serves the sessions it has."""
    monkeypatch.setattr(draining, "STEP_SECONDS", 2.0)
    async with echo() as server, server.client.socket() as websocket:
        await websocket.receive()
        sid = await server.client.open()
        drain = asyncio.ensure_future(server.engine.drain(4.0))
        await until(lambda: not server.listeners[0].session.is_open, "the first to be told")
        refused = await server.client.request("GET", "EIO=4&transport=polling", headers={"Origin": "http://a.example"})
        assert_refused(refused, 503, 3, "Server is shutting down")
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["access-control-allow-origin"] == "http://a.example"
        with pytest.raises(aiohttp.WSServerHandshakeError) as failure:
            await server.client.socket().__aenter__()
        assert failure.value.headers
        assert (failure.value.status, failure.value.headers["retry-after"]) == (503, "1")
        await websocket.closed()
        assert (await server.client.post(sid, b"4hello")).status == 200
        assert (await server.client.poll(sid)).body == b"4hello"
        assert (await server.client.poll(sid)).body == b"1"
        await drain
        assert not server.engine.sessions


async def test_drain_does_not_wait_for_who_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A polling client that never asks again delays the end only for a moment, and counts as disconnected then."""
    monkeypatch.setattr(engine_server, "_FAREWELL_SECONDS", 0.05)
    async with echo() as server:
        await server.client.open()
        async with asyncio.timeout(20):
            await server.engine.drain(0)
        assert server.listeners[0].reasons == ["server disconnect"]
        assert not server.engine.sessions
        # Without a session the drain ends at once.
        await server.engine.drain(20)


@versions
async def test_burst_across_the_upgrade(version: int) -> None:
    """Hundreds of upgrades in the middle of a burst: every packet arrives once and in order."""
    sessions, packets = 200, 60
    async with echo(version) as server:

        async def one(number: int) -> None:
            sid = await server.client.open("&b64=1")
            session = server.engine.sessions[sid]
            burst = asyncio.create_task(send_burst(session, packets, random.Random(number)))
            received = await receive_across_upgrade(server.client, sid, packets)
            await burst
            assert received == [f"4{index}" for index in range(packets)]

        for start in range(0, sessions, 20):
            await asyncio.gather(*(one(number) for number in range(start, start + 20)))


async def send_burst(session: EngineSession, packets: int, source: random.Random) -> None:
    """Send numbered packets, now and then letting others run."""
    for index in range(packets):
        session.send_encoded(EncodedPacket(b"4%d" % index))
        for _ in range(source.randrange(-12, 12)):
            await asyncio.sleep(0)


async def receive_across_upgrade(client: EngineClient, sid: str, packets: int) -> list[str]:
    """Poll and upgrade as the JavaScript clients do: no poll after the one that was under way at the probe's answer."""
    received: list[str] = []
    is_pausing = False

    async def keep_polling() -> None:
        while not is_pausing:
            received.extend(read(client, (await client.poll(sid)).body.decode()))

    polling = asyncio.create_task(keep_polling())
    async with client.upgrade(sid) as websocket:
        await websocket.send("2probe")
        assert await websocket.receive() == "3probe"
        is_pausing = True
        await polling
        await websocket.send("5")
        await receive_rest(websocket, received, packets)
    return received


async def receive_rest(websocket: Socket, received: list[str], packets: int) -> None:
    """Receive until all are there."""
    while len(received) < packets:
        received.append(str(await websocket.receive()))


def read(client: EngineClient, payload: str) -> list[str]:
    """The messages of a payload, without noops."""
    if client.version == 4:
        found = payload.split("\x1e")
    else:
        found = []
        while payload:
            length, _, payload = payload.partition(":")
            found.append(payload[: int(length)])
            payload = payload[int(length) :]
    return [packet for packet in found if packet.startswith("4")]
