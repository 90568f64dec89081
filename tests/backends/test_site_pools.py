"""Exchanges with a site's backend: the same answers and reasons through either kind of pool."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Callable

import pytest

from app.backends.exact_pool import ExactPool
from app.backends.exchange import MAX_ANSWER_BYTES, BackendError, BackendPool
from app.backends.lean_pool import LeanPool
from app.backends.site_pools import SitePools
from tests.backends.conftest import Backend, http_answer

NAME = (b"x-name", b"value")
PoolKind = Callable[[ssl.SSLContext], BackendPool]
LATIN_1_NAME = (b"x-name", b"d\xeda")


@pytest.fixture(params=[ExactPool, LeanPool], ids=["httpx", "lean"])
def kind(request: pytest.FixtureRequest) -> PoolKind:
    """One kind of pool."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
async def pools(kind: PoolKind) -> AsyncIterator[SitePools[BackendPool]]:
    """Pools of one kind, closed when the test ends. A busy machine is no fault of the backend."""
    made = SitePools(30, kind)
    yield made
    await made.aclose()


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_a_request_arrives_as_it_was_given(backend: Backend, pools: SitePools[BackendPool], method: str) -> None:
    """Method, URL, headers and body arrive, with the headers of every request and nothing else."""
    content = b"" if method == "GET" else b"\xffbody"
    await pools.exchange("newsite", method, f"{backend.url}/a%2Fb?c=%20", [NAME], content)
    (request,) = backend.requests
    assert (request.method, request.target, request.body) == (method, "/a%2Fb?c=%20", content)
    assert request.headers.pop("host") == backend.url.removeprefix("http://").encode()
    assert request.headers.pop("content-length", b"") == (b"5" if content else b"")
    assert request.headers == {"accept": b"application/json", "user-agent": b"recado", "x-name": b"value"}


async def test_body_of_a_refusal_is_not_read(backend: Backend, pools: SitePools[BackendPool]) -> None:
    """The body is read with a 200 only; after another status the next request works all the same."""
    backend.answer = http_answer(b"no", "403 Forbidden")
    for _ in range(2):
        answer = await pools.exchange("newsite", "GET", backend.url, [])
        assert (answer.status, answer.body) == (403, b"")


async def test_redirects_are_not_followed(backend: Backend, pools: SitePools[BackendPool]) -> None:
    """A redirect is an answer like any other."""
    backend.answer = http_answer(b"", "302 Found", f"Location: {backend.url}/elsewhere")
    assert (await pools.exchange("newsite", "GET", backend.url, [])).status == 302
    assert len(backend.requests) == 1


async def test_no_proxy_of_the_environment(
    backend: Backend, pools: SitePools[BackendPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that the environment names is not used."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert (await pools.exchange("newsite", "GET", backend.url, [])).status == 200


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "connection failed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n[]", "timed out"),
        (b"no HTTP at all\r\n\r\n", "not an HTTP answer"),
        (http_answer(b"[]", "200 OK", "Content-Encoding: gzip"), "answer could not be decoded"),
        (http_answer(b"a" * (MAX_ANSWER_BYTES + 1)), f"answer longer than {MAX_ANSWER_BYTES} bytes"),
        (
            http_answer(gzip.compress(b"a" * (MAX_ANSWER_BYTES + 1)), "200 OK", "Content-Encoding: gzip"),
            f"answer longer than {MAX_ANSWER_BYTES} bytes",
        ),
    ],
)
async def test_reasons_are_the_same(
    backend: Backend, pools: SitePools[BackendPool], kind: PoolKind, answer: bytes, reason: str
) -> None:
    """Both kinds give the same reason for each fault of an answer."""
    backend.answer = answer
    asked = SitePools(1, kind) if reason == "timed out" else pools
    with pytest.raises(BackendError) as caught:
        await asked.exchange("newsite", "PUT", backend.url, [], b"[]")
    await asked.aclose()
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1/", "connection failed"),
        ("http://nowhere.invalid/", "connection failed"),
        ("nowhere", "the URL is not usable"),
        ("http://a:b/", "the URL is not usable"),
        ("ftp://127.0.0.1/", "the URL is not usable"),
    ],
)
async def test_no_backend(pools: SitePools[BackendPool], url: str, reason: str) -> None:
    """The reason for a backend that is not there, and for a URL that is not usable."""
    with pytest.raises(BackendError) as caught:
        await pools.exchange("newsite", "GET", url, [])
    assert (str(caught.value), caught.value.was_answered) == (reason, False)


async def test_answer_that_breaks_off(pools: SitePools[BackendPool]) -> None:
    """An answer that ends in the middle of its body is a connection that failed."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with pytest.raises(BackendError, match=r"^connection failed$"):
        await pools.exchange("newsite", "GET", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", [])
    server.close()


@pytest.mark.parametrize(
    ("kind", "cause"), [(ExactPool, "ConnectError"), (LeanPool, "ConnectionRefusedError")], ids=["httpx", "lean"]
)
async def test_cause_names_what_the_library_saw(kind: PoolKind, cause: str) -> None:
    """For the log, the error carries the class that the library's own error wraps, and the words of the system."""
    pools = SitePools(1, kind)
    with pytest.raises(BackendError) as caught:
        await pools.exchange("newsite", "GET", "http://127.0.0.1:1/", [])
    assert str(caught.value) == "connection failed"
    seen, _, words = caught.value.cause.partition(": ")
    assert (seen, bool(words)) == (cause, True)
    await pools.aclose()


async def test_headers_arrive_in_their_bytes(backend: Backend, pools: SitePools[BackendPool]) -> None:
    """A header outside of ASCII arrives in its bytes."""
    for header in (NAME, LATIN_1_NAME, NAME):
        await pools.exchange("newsite", "GET", backend.url, [header])
    assert [request.headers["x-name"] for request in backend.requests] == [b"value", b"d\xeda", b"value"]


async def test_sites_share_no_pool(backend: Backend, pools: SitePools[BackendPool]) -> None:
    """One site's slow backend holds no connection of another's."""
    for site in ("a", "b", "a"):
        await pools.exchange(site, "GET", backend.url, [])
    assert len(pools._pools) == 2
