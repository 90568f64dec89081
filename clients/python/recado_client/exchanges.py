"""A call as httpx sends it, and an answer as it arrives, bounded in bytes and time."""

from __future__ import annotations

from typing import Any

import httpx

from recado_client.calls import MAX_ANSWER_BYTES, Answer, Call
from recado_client.errors import BadAnswer, Unreachable
from recado_client.settings import Settings


def request_of(
    http: httpx.Client | httpx.AsyncClient, settings: Settings, call: Call[Any], seconds: float
) -> httpx.Request:
    """The request of one attempt. The key stands in a header, because URLs are logged."""
    headers = {"accept": "application/json", "accept-encoding": "identity", "x-api-key": settings.api_key}
    return http.build_request(
        call.method,
        settings.url + call.path,
        params={"site": settings.site, **call.query},
        headers=headers | dict(call.headers),
        content=call.body,
        timeout=seconds,
    )


class Arriving:
    """The parts of one answer. Lives as long as one attempt."""

    def __init__(self, end: float) -> None:
        """`end` is the moment of the clock by which the answer is to be whole."""
        self._end = end
        self._body = bytearray()

    def take(self, part: bytes, now: float) -> None:
        """Keep one part; raise when the answer is too long, or takes too long."""
        self._body += part
        if len(self._body) > MAX_ANSWER_BYTES:
            raise BadAnswer(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
        if now > self._end:
            raise Unreachable("the answer did not end in time")

    def whole(self, answer: httpx.Response) -> Answer:
        """The answer, when every part has arrived."""
        return Answer(
            answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, bytes(self._body)
        )
