"""Every error of the HTTP libraries has a reason of ours, so that none reaches a client as a crash."""

import aiohttp
import httpx
import pytest

from app.backends.http import BackendError, SitePools, reason_of
from tests.backends.conftest import Backend, http_answer

# Raised by parts of httpx and aiohttp that are not used here: its client's redirects, cookies and raise_for_status, the
# reading of a stream out of turn; WebSockets and multipart bodies.
NOT_RAISED = {
    httpx.HTTPError,
    httpx.RequestError,
    httpx.TransportError,
    httpx.HTTPStatusError,
    httpx.TooManyRedirects,
    httpx.CookieConflict,
    httpx.StreamError,
    httpx.StreamConsumed,
    httpx.StreamClosed,
    httpx.ResponseNotRead,
    httpx.RequestNotRead,
    aiohttp.WSMessageTypeError,
    aiohttp.WebSocketError,
    aiohttp.EofStream,
    aiohttp.BadContentDispositionHeader,
    aiohttp.BadContentDispositionParam,
}


def errors_of(module: object) -> set[type[Exception]]:
    """The exceptions that a library offers."""
    names = (getattr(module, name) for name in dir(module))
    return {item for item in names if isinstance(item, type) and issubclass(item, Exception)}


@pytest.mark.parametrize("error", sorted(errors_of(httpx) - NOT_RAISED, key=str))
def test_every_error_of_httpx_has_a_reason(error: type[Exception]) -> None:
    """An exception that httpx gains fails this test until the table knows it."""
    assert reason_of(error.__new__(error))


@pytest.mark.parametrize("error", sorted(errors_of(aiohttp) - NOT_RAISED, key=str))
def test_every_error_of_aiohttp_has_a_reason(error: type[Exception]) -> None:
    """The same for aiohttp."""
    assert reason_of(error.__new__(error))


def test_other_errors_have_none() -> None:
    """A mistake of ours is no reason for a client: it is not swallowed."""
    with pytest.raises(KeyError):
        reason_of(ZeroDivisionError())


async def test_body_of_a_refusal_is_not_read(backend: Backend) -> None:
    """Only a 200 has a body worth its bytes; the connection serves the next request all the same."""
    pools = SitePools(timeout_seconds=1)
    backend.answer = http_answer(b"no", "403 Forbidden")
    for _ in range(2):
        answer = await pools.exchange("newsite", "GET", backend.url, [])
        assert (answer.status, answer.body) == (403, b"")
    await pools.aclose()


async def test_cause_names_what_the_library_saw() -> None:
    """For the log, the error carries the class that the library's own error wraps."""
    pools = SitePools(timeout_seconds=1)
    with pytest.raises(BackendError) as caught:
        await pools.exchange("newsite", "GET", "http://127.0.0.1:1/", [])
    assert (str(caught.value), caught.value.cause) == ("connection failed", "ClientConnectorError")
    await pools.aclose()
