"""The requests of a reader, as a server gets them, and the answers that are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from app.backends.exchange import BackendError
from app.backends.sender import RunningServer
from app.outbox.http_door import LONGEST_RETRY_AFTER_SECONDS, MAX_ANSWER_BYTES, SendDoor
from app.outbox.row import CommittedMessage, SendReply
from tests.support.ports import free_port


def row(site: str = "shop", resync: bool = False) -> CommittedMessage:
    """A message."""
    return CommittedMessage(position=9, id=17, site=site, keys=("shop/a",), bytes=2, resync=resync, attempts=0)


class Taker:
    """A server that keeps requests. Lives for one test."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answer = web.Response(text="OK")

    async def handle(self, request: web.Request) -> web.Response:
        """Keep a request and answer."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.path_qs, headers, await request.read()))
        return self.answer


@pytest.fixture
async def taker() -> AsyncIterator[tuple[Taker, str]]:
    """A server, and its URL."""
    taker, application = Taker(), web.Application()
    application.router.add_route("*", "/{rest:.*}", taker.handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield taker, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_request(taker: tuple[Taker, str]) -> None:
    """A message is a POST with the site's key in a header and the number in the outbox as the idempotency key."""
    server, url = taker
    door = SendDoor(RunningServer(f"{url}/"), {"shop": "the key", "día/1": "other"})
    server.answer = web.Response(text="OK", headers={"Idempotent-Replayed": "true"})
    assert await door.post(row(), "abc", b"{}") == SendReply(200, "OK", 0.0, True)
    server.answer = web.Response(status=429, text="slowly", headers={"Retry-After": "7"})
    assert await door.post(row("día/1", resync=True), "abc", b"[]") == SendReply(429, "slowly", 7.0)
    server.answer = web.Response(status=503, text="x" * 2 * MAX_ANSWER_BYTES, headers={"Retry-After": "999999999"})
    answer = await door.post(row(), "abc", b"{}")
    assert (len(answer.text), answer.retry_after_seconds) == (MAX_ANSWER_BYTES, LONGEST_RETRY_AFTER_SECONDS)
    server.answer = web.Response(status=301, headers={"Location": "http://127.0.0.1:9/", "Retry-After": "soon"})
    assert await door.post(row(), "abc", b"{}") == SendReply(301, "", 0.0)
    door.close()
    path, headers, body = server.requests[0]
    assert (path, body) == ("/send?site=shop", b"{}")
    assert headers["x-api-key"] == "the key"
    assert headers["idempotency-key"] == "outbox-abc-17"
    assert (headers["content-type"], headers["accept"]) == ("application/json", "application/json")
    assert server.requests[1][0] == "/send?site=d%C3%ADa%2F1&resync=true"
    assert server.requests[1][1]["x-api-key"] == "other"


async def test_no_answer() -> None:
    """A server that is away, that cuts, or that speaks something else is an answer without a status."""
    door = SendDoor(RunningServer(f"http://127.0.0.1:{free_port()}"), {"shop": "k"})
    away = await door.post(row(), "abc", b"{}")
    door.close()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"220 hello\r\n")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1")
    door = SendDoor(RunningServer(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), {"shop": "k"})
    strange = await door.post(row(), "abc", b"{}")
    door.close()
    server.close()
    assert [away.status, strange.status] == [0, 0]
    assert away.text.startswith("no answer from the server: ConnectionRefusedError")
    assert strange.text.startswith("no answer from the server: ")


def test_a_wrong_url_is_refused() -> None:
    """A URL that leads nowhere is refused at the start."""
    with pytest.raises(BackendError, match="the URL is not usable"):
        SendDoor(RunningServer("push.example.com"), {"shop": "k"})
