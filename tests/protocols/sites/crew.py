"""The nodes that an order of a backend reaches: this one, and others that do not answer."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from app.errors import StoreAway


class Crew:
    """This node alone, and nodes that do not answer. Lives for one test."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}
        self.silent: dict[str, str] = {}
        self.gate: asyncio.Event | None = None
        self.is_away = False

    async def ask_all(self, verb: str, given: Any) -> tuple[dict[str, Any], dict[str, str]]:
        """The answers, as another node would get them."""
        if self.gate is not None:
            await self.gate.wait()
        if self.is_away:
            raise StoreAway
        answer = await self.handlers[verb](msgspec.json.decode(msgspec.json.encode(given)))
        return {"n1": answer}, self.silent
