"""ASGI's receive with prepared events."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any


def receiving(*messages: dict[str, Any]) -> Callable[[], Coroutine[Any, Any, dict[str, Any]]]:
    """An ASGI receive that gives these messages."""
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    return receive


def chunk(body: bytes, more_body: bool = True) -> dict[str, Any]:
    """A piece of a body."""
    return {"type": "http.request", "body": body, "more_body": more_body}
