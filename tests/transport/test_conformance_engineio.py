"""The checks of the official engine.io-protocol suites (versions 4 and 3), against the echo server made for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.socketio.engine_client import EngineClient
from tests.support.ports import free_port
from tests.support.waiting import until, until_answer
from tests.transport.engineio_echo_server import BEATING, QUIET, EngineEcho
from tests.transport.serving import serving

SCRIPTS = Path(__file__).parent
INTERVAL_SECONDS, TIMEOUT_SECONDS = 0.3, 0.2
OPEN_VALUES = {"pingInterval": 300, "pingTimeout": 200, "maxPayload": 1_000_000}

versions = pytest.mark.parametrize("version", [4, 3])


@contextlib.asynccontextmanager
async def echo_client(version: int, echo: EngineEcho | None = None) -> AsyncIterator[EngineClient]:
    """A client of an echo server; unless given a fresh one, which sends no pings."""
    async with serving(echo or EngineEcho(QUIET)) as served, EngineClient(served.port, version) as client:
        yield client


async def poll_waits(echo: EngineEcho) -> None:
    """Wait until the server has the poll of its last session."""
    mailbox = echo.sessions[-1].mailbox
    assert mailbox is not None
    await until(lambda: mailbox.has_waiting_poll, "the poll")


@versions
async def test_polling_handshake(version: int) -> None:
    """A polling session opens with sid, upgrades, exact milliseconds and maxPayload, and nothing else."""
    async with echo_client(version, EngineEcho()) as client:
        text = (await client.request("GET", f"EIO={version}&transport=polling&b64=1")).body.decode()
    if version == 3:
        length, _, text = text.partition(":")
        assert int(length) == len(text)
    assert text[0] == "0"
    values = json.loads(text[1:])
    assert isinstance(values.pop("sid"), str)
    assert values == {"upgrades": ["websocket"], **OPEN_VALUES}


@versions
async def test_websocket_handshake(version: int) -> None:
    """A session on a WebSocket opens likewise, with no further upgrade."""
    async with echo_client(version, EngineEcho()) as client, client.socket() as websocket:
        text = await websocket.receive()
    assert isinstance(text, str)
    values = json.loads(text[1:])
    assert isinstance(values.pop("sid"), str)
    assert values == {"upgrades": [], **OPEN_VALUES}


@pytest.mark.parametrize("query", ["transport={0}", "EIO=abc&transport={0}", "EIO=4", "EIO=4&transport=abc"])
async def test_wrong_version_or_transport(query: str) -> None:
    """A wrong EIO or transport is refused with 400, over HTTP as over WebSocket."""
    async with echo_client(4) as client:
        assert (await client.request("GET", query.format("polling"))).status == 400
        assert await client.refusal_of_socket(query.format("websocket")) == 400


@versions
async def test_wrong_method(version: int) -> None:
    """A handshake by POST or PUT is refused with 400."""
    async with echo_client(version) as client:
        for method in ("POST", "PUT"):
            assert (await client.request(method, f"EIO={version}&transport=polling")).status == 400


@pytest.mark.parametrize(
    ("version", "payload"),
    [
        (4, "4hello"),
        (4, "4test1\x1e4test2\x1e4test3"),
        (4, "4hello\x1ebAQIDBA=="),
        (3, "6:4hello"),
        (3, "6:4test16:4test26:4test3"),
        (3, "6:4hello10:b4AQIDBA=="),
    ],
)
async def test_polling_messages(version: int, payload: str) -> None:
    """One, several and binary messages arrive, and come back in the next poll."""
    async with echo_client(version) as client:
        sid = await client.open("&b64=1")
        posted = await client.post(sid, payload)
        assert (posted.status, posted.body) == (200, b"ok")
        polled = await client.poll(sid)
        assert (polled.status, polled.body.decode()) == (200, payload)


async def test_polling_binary_framing_of_version_3() -> None:
    """A version 3 client that did not ask for base64 gets every payload in binary framing."""
    async with echo_client(3) as client:
        opened = await client.request("GET", "EIO=3&transport=polling")
        kind, length, text = opened.body[:1], opened.body[1 : opened.body.index(b"\xff")], opened.body.split(b"\xff")[1]
        assert (kind, int("".join(map(str, length)))) == (b"\x00", len(text))
        assert opened.headers["content-type"] == "application/octet-stream"
        sid = json.loads(text[1:])["sid"]
        await client.post(sid, "6:4hello10:b4AQIDBA==")
        polled = await client.poll(sid)
    assert polled.body == b"\x00\x06\xff4hello\x01\x05\xff\x04\x01\x02\x03\x04"
    assert polled.headers["content-type"] == "application/octet-stream"


@versions
async def test_malformed_post_closes(version: int) -> None:
    """A POST that is no payload is refused with 400 and ends the session."""
    async with echo_client(version) as client:
        sid = await client.open()
        assert (await client.post(sid, "abc")).status == 400
        assert (await client.poll(sid)).status == 400


@versions
async def test_two_polls_close(version: int) -> None:
    """A poll beside a waiting one is refused, the waiting one gets the close packet, the session ends."""
    echo = EngineEcho(QUIET)
    async with echo_client(version, echo) as client:
        sid = await client.open()
        first = asyncio.ensure_future(client.poll(sid))
        await poll_waits(echo)
        second = await client.poll(sid)
        assert second.status == 400
        assert (await first).body.decode() == client.payload("1")
        assert (await client.poll(sid)).status == 400


@versions
async def test_cancelled_poll_closes(version: int) -> None:
    """A poll that the client gives up ends the session."""
    echo = EngineEcho(QUIET)
    async with serving(echo) as served, EngineClient(served.port, version) as client:
        sid = await client.open()
        poll = asyncio.ensure_future(client.poll(sid))
        await poll_waits(echo)
        poll.cancel()
        await until(lambda: not served.connections, "the end of the poll's connection")
        assert (await client.poll(sid)).status == 400


@versions
async def test_websocket_messages(version: int) -> None:
    """Text and binary messages come back over the WebSocket."""
    async with echo_client(version) as client, client.socket() as websocket:
        await websocket.receive()
        binary = b"\x01\x02\x03\x04" if version == 4 else b"\x04\x01\x02\x03\x04"
        for message in ("4hello", binary):
            await websocket.send(message)
            assert await websocket.receive_but_pings() == message


@versions
async def test_malformed_message_closes(version: int) -> None:
    """A WebSocket message that is no packet ends the session."""
    async with echo_client(version) as client, client.socket() as websocket:
        await websocket.receive()
        await websocket.send("abc")
        await websocket.closed()


async def test_polling_heartbeat_of_version_4() -> None:
    """The server pings in every interval, and a client that answers stays."""
    async with echo_client(4, EngineEcho(BEATING)) as client:
        sid = await client.open()
        for _ in range(3):
            assert (await client.poll(sid)).body == b"2"
            assert (await client.post(sid, "3")).status == 200


async def test_polling_heartbeat_of_version_3() -> None:
    """The client pings, and the pong comes with the next poll."""
    async with echo_client(3) as client:
        sid = await client.open()
        for _ in range(3):
            assert (await client.post(sid, "1:2")).status == 200
            assert (await client.poll(sid)).body == b"1:3"


async def test_websocket_heartbeat_of_version_4() -> None:
    """The server pings three times over a WebSocket that answers."""
    async with echo_client(4, EngineEcho(BEATING)) as client, client.socket() as websocket:
        await websocket.receive()
        for _ in range(3):
            assert await websocket.receive() == "2"
            await websocket.send("3")


async def test_websocket_heartbeat_of_version_3() -> None:
    """The server answers three pings, and a probe's text with the same."""
    async with echo_client(3) as client, client.socket() as websocket:
        await websocket.receive()
        for ping, pong in (("2", "3"), ("2", "3"), ("2hello", "3hello")):
            await websocket.send(ping)
            assert await websocket.receive() == pong


@versions
async def test_polling_timeout(version: int) -> None:
    """A session whose client is silent is gone after interval plus time-out, not before."""
    echo = EngineEcho()
    async with echo_client(version, echo) as client:
        start = asyncio.get_running_loop().time()
        sid = await client.open()
        await until(lambda: not echo.sessions[0].is_open, "the end of the session")
        assert asyncio.get_running_loop().time() - start > INTERVAL_SECONDS + TIMEOUT_SECONDS - 0.05
        assert (await client.poll(sid)).status == 400


@versions
async def test_websocket_timeout(version: int) -> None:
    """A silent WebSocket is closed after interval plus time-out, not before."""
    async with echo_client(version, EngineEcho()) as client, client.socket() as websocket:
        await websocket.receive()
        start = asyncio.get_running_loop().time()
        await websocket.closed()
        # The server began to count up to its pause for the suites earlier.
        assert asyncio.get_running_loop().time() - start > INTERVAL_SECONDS + TIMEOUT_SECONDS - 0.05


@versions
async def test_polling_close(version: int) -> None:
    """A close packet ends the waiting poll with a noop, and the session."""
    echo = EngineEcho(QUIET)
    async with echo_client(version, echo) as client:
        sid = await client.open()
        poll = asyncio.ensure_future(client.poll(sid))
        await poll_waits(echo)
        assert (await client.post(sid, client.payload("1"))).status == 200
        assert (await poll).body.decode() == client.payload("6")
        assert (await client.poll(sid)).status == 400


@versions
async def test_websocket_close(version: int) -> None:
    """A close packet closes the WebSocket."""
    async with echo_client(version) as client, client.socket() as websocket:
        await websocket.receive()
        await websocket.send("1")
        await websocket.closed()


@versions
async def test_upgrade(version: int) -> None:
    """After the probe a poll is answered with a noop; after the upgrade messages come over the WebSocket."""
    async with echo_client(version) as client:
        sid = await client.open()
        async with client.upgrade(sid) as websocket:
            await websocket.send("2probe")
            assert await websocket.receive() == "3probe"
            assert (await client.poll(sid)).body.decode() == client.payload("6")
            await websocket.send("5")
            await websocket.send("4hello")
            assert await websocket.receive_but_pings() == "4hello"


@versions
async def test_upgraded_sid_is_ignored(version: int) -> None:
    """Polls and POSTs of an upgraded session are refused, a further WebSocket is opened and closed; none does harm."""
    async with echo_client(version) as client:
        sid = await client.open()
        async with client.upgrade(sid) as websocket:
            await websocket.send("2probe")
            await websocket.receive()
            await websocket.send("5")
            await websocket.send("4taken")
            assert await websocket.receive_but_pings() == "4taken"
            assert (await client.poll(sid)).status == 400
            assert (await client.post(sid, client.payload("4hello"))).status == 400
            async with client.upgrade(sid) as second:
                assert await second.closed() == 1000
            await websocket.send("4hello")
            assert await websocket.receive_but_pings() == "4hello"


@pytest.mark.parametrize("script", ["engineio", "socketio"])
async def test_scripts_serve(script: str) -> None:
    """The servers for the official suites start on the port they are given."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(sys.executable, SCRIPTS / f"{script}_echo_server.py", str(port))
    try:
        async with EngineClient(port, path=f"/{script.replace('io', '.io')}/") as client:
            await until_answer(client.open, "the server to listen", (OSError,), 60, 0.05)
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 30)
