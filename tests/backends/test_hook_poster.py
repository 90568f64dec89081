"""One POST of a webhook: the address that it goes to, its deadline, and what is read of the answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from app.backends import hook_poster
from app.backends.hook_poster import HookPoster, is_public
from tests.backends.conftest import Backend, http_answer
from tests.transport.tls import make_certificate


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    """A backend that records what it was asked."""
    backend = Backend()
    await backend.start()
    yield backend
    await backend.close()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a00:1::",
    ],
)  # fmt: skip
def test_addresses_that_are_not_of_the_internet(address: str) -> None:
    """Private, loopback and link-local addresses are told, also within an IPv6 address."""
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_addresses_of_the_internet(address: str) -> None:
    """An address of the internet is one, also within an IPv6 address."""
    assert is_public(ip_address(address))


async def test_a_private_address_is_refused(backend: Backend) -> None:
    """A URL that leads to this machine is refused unless it may, and nothing is connected to."""
    answer = await HookPoster().post(backend.url, {}, b"{}", may_be_private=False)
    assert (answer.status, backend.requests) == (0, [])
    assert "private network" in answer.error


async def test_the_judged_address_is_the_one_asked(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is resolved once: an answer that changes behind the judgement leads nowhere else."""
    asked: list[str] = []
    port = int(backend.url.rpartition(":")[2])

    def rebinding(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    answer = await HookPoster().post(f"http://hook.example:{port}/a?b=1", {"x": "1"}, b"{}", may_be_private=True)
    assert (answer.status, asked) == (200, ["hook.example"])
    (request,) = backend.requests
    assert (request.method, request.target, request.body) == ("POST", "/a?b=1", b"{}")
    assert request.headers["host"] == f"hook.example:{port}".encode()
    assert request.headers["content-type"] == b"application/json"


async def test_an_unreachable_address_is_passed_over(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several addresses the next is tried when one cannot be connected to."""
    port = int(backend.url.rpartition(":")[2])
    found = [(2, 1, 6, "", (address, port)) for address in ("127.0.0.9", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    answer = await HookPoster().post(f"http://hook.example:{port}/", {}, b"{}", may_be_private=True)
    assert answer.status == 200


async def test_a_redirect_is_an_answer(backend: Backend) -> None:
    """No redirect is followed."""
    backend.answer = http_answer(b"there", "302 Found", f"Location: {backend.url}/other")
    answer = await HookPoster().post(backend.url, {}, b"{}", may_be_private=True)
    assert (answer.status, answer.text, len(backend.requests)) == (302, "there", 1)


async def test_the_begin_of_the_answer_is_kept(backend: Backend) -> None:
    """Of an answer 1 KB is read, whatever its length."""
    backend.answer = http_answer(b"\xff" + b"x" * 5_000_000)
    answer = await HookPoster().post(backend.url, {}, b"{}", may_be_private=True)
    assert (answer.status, answer.text) == (200, "�" + "x" * 1023)


async def test_a_slow_backend_fails(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is for the whole exchange."""
    monkeypatch.setattr(hook_poster, "POST_SECONDS", 0.1)
    backend.gate = asyncio.Event()
    answer = await HookPoster().post(backend.url, {}, b"{}", may_be_private=True)
    assert (answer.status, answer.error.partition(" (")[0]) == (0, "timed out")
    backend.gate.set()


async def test_a_resolver_that_hangs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is being resolved once at a time, and names are bounded; a look-up that ends late disturbs nobody."""
    monkeypatch.setattr(hook_poster, "POST_SECONDS", 0.1)
    monkeypatch.setattr(hook_poster, "MAX_LOOKUPS", 1)
    loop, released, ended = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def hang(*_: Any, **__: Any) -> list[Any]:
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result()
        loop.call_soon_threadsafe(ended.set)
        raise OSError(1, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    poster = HookPoster()
    first = await poster.post("http://one.example/", {}, b"{}", may_be_private=True)
    second = await poster.post("http://two.example/", {}, b"{}", may_be_private=True)
    again = await poster.post("http://one.example/", {}, b"{}", may_be_private=True)
    assert first.error.startswith("timed out")
    assert again.error.startswith("timed out")
    assert "being resolved" in second.error
    released.set()
    await ended.wait()


async def test_a_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend over TLS is asked when its certificate is trusted and names it, and fails with the reason otherwise."""
    made = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(http_answer(b"ok"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    answer = await HookPoster().post(url, {}, b"{}", may_be_private=True)
    assert answer.status == 0
    assert "certificate" in answer.error
    monkeypatch.setattr(hook_poster, "default_context", lambda: made.client_context)
    answer = await HookPoster().post(url, {}, b"{}", may_be_private=True)
    assert (answer.status, answer.text) == (200, "ok")
    server.close()
