"""An endpoint with tracing: the request is current while it is answered, and its span has the status of the answer."""

from __future__ import annotations

import pytest

from app.protocols.http_request import Receive, Scope, Send
from app.protocols.traced_endpoint import TracedEndpoint
from app.tracing.send_request import current_request
from app.tracing.spans import Begin
from tests.support.spans import KeptSpans

_SCOPE: Scope = {"path": "/send/", "headers": []}


async def nothing(*_: object) -> object:
    """Receive or send nothing."""
    return {}


@pytest.mark.parametrize(("status", "error"), [(200, ""), (429, ""), (503, "503")])
async def test_the_status_of_the_answer(status: int, error: str) -> None:
    """The span ends with the status that was sent; an answer past ASGI is one of 200."""
    spans = KeptSpans()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        request = current_request.get()
        assert request is not None
        assert request.route == "/send"
        request.span = spans.begin(Begin("POST /send", "server", request.began_ns))
        if status != 200:
            await send({"type": "http.response.start", "status": status})
            await send({"type": "http.response.body"})

    await TracedEndpoint(answer)(_SCOPE, nothing, nothing)  # type: ignore[arg-type]
    assert current_request.get() is None
    [span] = spans.all
    assert (span.attributes["http.response.status_code"], span.error) == (status, error)


async def test_an_endpoint_that_fails() -> None:
    """An error of the endpoint goes on, and ends the span as failed."""
    spans = KeptSpans()

    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        request = current_request.get()
        assert request is not None
        request.span = spans.begin(Begin("POST /send", "server", request.began_ns))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await TracedEndpoint(fail)(_SCOPE, nothing, nothing)  # type: ignore[arg-type]
    assert current_request.get() is None
    assert spans.all[0].error == "500"
