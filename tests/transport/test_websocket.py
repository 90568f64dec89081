"""The upgrade under uvicorn: scope, answers, early bytes, TLS, limits, shutdown."""

import asyncio
import gc
import logging
import ssl
import weakref
from typing import Any

import pytest

from app.transport.websocket import EXTENSION
from tests.support.waiting import until
from tests.transport.serving import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    FastLane,
    Message,
    Receive,
    Recorder,
    Send,
    client_frame,
    close_payload,
    echo,
    serving,
)
from tests.transport.tls import Certificate


async def _scope_of(path: str, headers: dict[str, Any], **settings: Any) -> Message:
    scopes = []

    async def application(scope: Message, _receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send({"type": "websocket.close"})

    async with serving(application, **settings) as served:
        peer = await served.socket()
        peer.request(path, **headers)
        await peer.response()
    return scopes[0]


async def test_scope() -> None:
    """The scope holds the facts of the request that ASGI defines."""
    scope = await _scope_of("/a%20b?c=%20d", {"x_custom": "1", "sec_websocket_protocol": "x, y"})
    assert scope["type"] == "websocket"
    assert scope["asgi"]["spec_version"] == "2.4"
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c=%20d")
    assert (scope["scheme"], scope["root_path"], scope["http_version"]) == ("ws", "", "1.1")
    assert (b"x-custom", b"1") in scope["headers"]
    assert scope["subprotocols"] == ["x", "y"]
    assert scope["client"][0] == scope["server"][0] == "127.0.0.1"


async def test_root_path_stands_before_the_path() -> None:
    """uvicorn's root_path stands in path, raw_path and root_path."""
    scope = await _scope_of("/a", {}, root_path="/base")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/base", "/base/a", b"/base/a")


async def test_forwarded_headers_of_a_trusted_proxy() -> None:
    """uvicorn's proxy headers set client and scheme, as for HTTP."""
    scope = await _scope_of("/", {"x_forwarded_for": "203.0.113.9", "x_forwarded_proto": "https"})
    assert scope["client"][0] == "203.0.113.9"
    assert scope["scheme"] == "wss"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec_websocket_version": "8"}, 426),
        ({"sec_websocket_key": "short"}, 400),
        ({"without": "sec-websocket-key"}, 400),
    ],
)
async def test_bad_handshakes(headers: dict[str, Any], status: int) -> None:
    """A handshake that breaks a rule is answered without asking the application."""
    application = FastLane()
    async with serving(application) as served:
        peer = await served.socket()
        peer.request(**headers)
        assert (await peer.response())[0] == status
        assert b"Sec-WebSocket" in await peer.end()
        assert not application.recorders
        await until(lambda: not served.connections, "the end")


async def test_compression_is_not_agreed_on() -> None:
    """permessage-deflate, which every browser offers, is left unanswered."""
    async with serving(echo) as served:
        peer = await served.socket()
        peer.request(sec_websocket_extensions="permessage-deflate; client_max_window_bits")
        _, headers = await peer.response()
        assert "sec-websocket-extensions" not in headers


async def test_the_answer_carries_the_headers_of_all() -> None:
    """uvicorn's own headers and the application's stand in the 101."""

    async def application(scope: Message, _receive: Receive, _send: Send) -> None:
        connection = scope["extensions"][EXTENSION]["connection"]
        connection.accept(
            Recorder(), max_message_bytes=1000, max_outbox_bytes=1000, subprotocol="y", headers=[(b"x-own", b"1")]
        )

    async with serving(application, headers=[("x-all", "2")]) as served:
        peer = await served.socket()
        peer.request(sec_websocket_protocol="x, y")
        _, headers = await peer.response()
        assert (headers["x-own"], headers["x-all"], headers["sec-websocket-protocol"]) == ("1", "2", "y")
        assert "date" in headers


async def test_reject_on_the_fast_lane() -> None:
    """reject() answers with any status and body; later calls do nothing."""

    async def application(scope: Message, _receive: Receive, _send: Send) -> None:
        connection = scope["extensions"][EXTENSION]["connection"]
        connection.reject(400, b'{"code":1}', [(b"content-type", b"application/json")])
        connection.reject(200)
        connection.write_text(b"nothing")
        connection.close()

    async with serving(application) as served:
        peer = await served.socket()
        peer.request()
        status, headers = await peer.response()
        assert (status, headers["content-type"], headers["connection"]) == (400, "application/json", "close")
        assert await peer.end() == b'{"code":1}'
        await until(lambda: not served.connections, "the end")


async def test_a_header_that_is_none_is_the_applications_fault(caplog: pytest.LogCaptureFixture) -> None:
    """An application that accepts with a header that would smuggle in another gets a ValueError, its peer a 500."""

    async def application(_scope: Message, _receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", "headers": [(b"a", b"1\r\nb: 2")]})

    async with serving(application) as served:
        peer = await served.socket()
        peer.request()
        assert (await peer.response())[0] == 500
        assert "holds a control character" in caplog.text


async def test_accept_after_the_peer_has_left() -> None:
    """A listener that comes too late hears of the end exactly once, and not from within accept."""
    may_answer = asyncio.Event()
    recorder = Recorder()

    async def application(scope: Message, _receive: Receive, _send: Send) -> None:
        await may_answer.wait()
        scope["extensions"][EXTENSION]["connection"].accept(recorder, max_message_bytes=1000, max_outbox_bytes=1000)
        assert not recorder.lost

    async with serving(application) as served:
        peer = await served.socket()
        peer.request()
        await until(lambda: bool(served.unanswered), "the request")
        peer.close()
        await until(lambda: not served.connections, "the loss")
        may_answer.set()
        assert await recorder.until_lost() == (1006, "")


@pytest.mark.parametrize("delay_bytes", [0, 5])
async def test_frames_sent_right_behind_the_request(delay_bytes: int) -> None:
    """Frames that come with the request or before its answer are the first messages, in order."""
    may_answer = asyncio.Event()
    application = FastLane()

    async def slowly(scope: Message, receive: Receive, send: Send) -> None:
        await may_answer.wait()
        await application(scope, receive, send)

    early = client_frame(TEXT, b"first") + client_frame(TEXT, "sëcond".encode()) + client_frame(PING, b"?")
    async with serving(slowly) as served:
        peer = await served.socket()
        cut = len(early) - delay_bytes
        peer.request(behind=early[:cut])
        await until(lambda: bool(served.unanswered), "the request")
        peer.writer.write(early[cut:])
        await peer.writer.drain()
        may_answer.set()
        assert (await peer.response())[0] == 101
        peer.send(TEXT, b"third")
        assert await application.recorders[0].until_received(3) == [b"first", "sëcond".encode(), b"third"]
        assert await peer.frame() == (PONG, b"?")


async def test_many_early_bytes_wait_in_the_kernel() -> None:
    """A peer that sends megabytes before its answer is not read meanwhile, and loses nothing."""
    may_answer = asyncio.Event()
    application = FastLane()

    async def slowly(scope: Message, receive: Receive, send: Send) -> None:
        await may_answer.wait()
        await application(scope, receive, send)

    async with serving(slowly) as served:
        peer = await served.socket()
        peer.request(behind=client_frame(TEXT, b"x" * 10_000) * 500)
        await until(lambda: bool(served.unanswered), "the request")
        protocol = served.unanswered[0]
        await until(lambda: not protocol._transport.is_reading(), "reading to stop")
        assert len(protocol._early) < 1 << 20
        may_answer.set()
        assert (await peer.response())[0] == 101
        assert len(await application.recorders[0].until_received(500)) == 500


async def test_tls(certificate: Certificate) -> None:
    """Over TLS everything is the same, early frames included, and the scheme is wss."""
    application = FastLane()
    scopes = []

    async def noting(scope: Message, receive: Receive, send: Send) -> None:
        scopes.append(scope["scheme"])
        await application(scope, receive, send)

    context: ssl.SSLContext = certificate.client_context
    async with serving(noting, ssl_certfile=certificate.certificate, ssl_keyfile=certificate.key) as served:
        peer = await served.peer(context=context, behind=client_frame(TEXT, b"early"))
        recorder = application.recorders[0]
        peer.send(TEXT, b"x" * 100_000)
        assert await recorder.until_received(2) == [b"early", b"x" * 100_000]
        recorder.connection.write_text(b"y" * 100_000)
        recorder.connection.write_text(b"z")
        assert await peer.frame() == (TEXT, b"y" * 100_000)
        assert await peer.frame() == (TEXT, b"z")
        peer.send(CLOSE, close_payload(1000))
        assert await peer.closing() == (1000, "")
        assert await recorder.until_lost() == (1000, "")
        assert scopes == ["wss"]


async def test_tls_breach(certificate: Certificate) -> None:
    """Over TLS, too, a breach is answered with its close frame."""
    application = FastLane()
    async with serving(application, ssl_certfile=certificate.certificate, ssl_keyfile=certificate.key) as served:
        peer = await served.peer(context=certificate.client_context)
        peer.send(TEXT, b"a", rsv=4)
        assert (await peer.closing())[0] == 1002
        assert (await application.recorders[0].until_lost())[0] == 1002


async def test_limit_concurrency() -> None:
    """Beyond uvicorn's limit of connections an upgrade is answered with 503; a place that is left can be taken."""
    async with serving(echo, limit_concurrency=3) as served:
        peers = [await served.peer() for _ in range(2)]
        refused = await served.socket()
        refused.request()
        assert (await refused.response())[0] == 503
        peers[0].close()
        await until(lambda: len(served.connections) == 1, "the place")
        await served.peer()


async def test_the_token_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The line that uvicorn logs about an upgrade has no query."""
    with caplog.at_level(logging.DEBUG):
        async with serving(echo) as served:
            await served.peer("/site?token=secret-token")
    assert '"WebSocket /site" [accepted]' in caplog.text
    assert "secret-token" not in caplog.text


async def test_what_an_accepted_connection_lets_go_of() -> None:
    """After the answer neither the request nor uvicorn's HTTP protocol is left, without waiting for a collection."""
    protocols: list[weakref.ref[Any]] = []
    application = FastLane()

    async def noting(scope: Message, receive: Receive, send: Send) -> None:
        protocols.append(weakref.ref(scope["extensions"][EXTENSION]["connection"]._upgrade))
        await application(scope, receive, send)

    gc.disable()
    try:
        async with serving(noting) as served:
            await served.peer()
            await until(lambda: not served.server.server_state.tasks, "the end of the call")
            assert protocols[0]() is None
            assert served.connections == {application.recorders[0].connection}
    finally:
        gc.enable()


async def test_shutdown_closes_all_and_ends() -> None:
    """uvicorn's shutdown ends with clients that answer: open ones get 1012, one still waiting for its answer 503."""
    never = asyncio.Event()
    application = FastLane()

    async def either(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await receive()
            assert (await receive())["type"] == "websocket.disconnect"
            never.set()
        else:
            await (application if scope["path"] == "/fast" else echo)(scope, receive, send)

    async with serving(either) as served:
        fast, plain = await served.peer("/fast"), await served.peer("/echo")
        slow = await served.socket()
        slow.request("/slow")
        await until(lambda: bool(served.unanswered), "the request")
        ending = asyncio.create_task(served.server.shutdown())
        for peer in (fast, plain):
            assert await peer.frame() == (CLOSE, close_payload(1012))
            peer.send(CLOSE, close_payload(1012))
        assert (await slow.response())[0] == 503
        await ending
        assert never.is_set()
        assert application.recorders[0].lost == [(1012, "")]


async def test_shutdown_does_not_wait_for_the_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not answer delays uvicorn no longer than its own time-out."""
    monkeypatch.setattr("app.transport.connection.CLOSE_TIMEOUT_SECONDS", 60.0)
    application = FastLane()
    async with serving(application, timeout_graceful_shutdown=0) as served:
        peer = await served.peer()
        async with asyncio.timeout(20):
            await served.server.shutdown()
        assert await peer.frame() == (CLOSE, close_payload(1012))
