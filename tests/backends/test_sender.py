"""The command line's sender against a prepared server."""

import asyncio

import pytest

from app.backends.exchange import BackendError
from app.backends.sender import RunningServer, post_send
from tests.backends.conftest import Backend, http_answer


async def test_message_is_posted_as_a_backend_would(backend: Backend) -> None:
    """Site and resync stand in the query, the key in a header, and the server's text comes back."""
    backend.answer = http_answer(b"OK\n")
    answer = await asyncio.to_thread(
        post_send, RunningServer(f"{backend.url}/"), "a b&c", "54321", b'{"event":"x"}', resync=True
    )
    assert (answer.status, answer.text) == (200, "OK")
    (request,) = backend.requests
    assert (request.method, request.target) == ("POST", "/send?site=a%20b%26c&resync=true")
    assert request.headers["x-api-key"] == b"54321"
    assert request.body == b'{"event":"x"}'


async def test_refusals_are_answers(backend: Backend) -> None:
    """The answer to a refused message has its status and text."""
    backend.answer = http_answer(b"ApiKey invalid.", "401 Unauthorized")
    answer = await asyncio.to_thread(post_send, RunningServer(backend.url), "a", "1", b"{}")
    assert (answer.status, answer.text) == (401, "ApiKey invalid.")


@pytest.mark.parametrize(
    ("url", "reason"), [("http://127.0.0.1:1", "connection failed"), ("nowhere", "the URL is not usable")]
)
def test_no_server(url: str, reason: str) -> None:
    """A server that is not there is a BackendError with a short reason."""
    with pytest.raises(BackendError, match=f"^{reason}$"):
        post_send(RunningServer(url), "a", "1", b"{}")
