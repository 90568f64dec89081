"""The driver of the Python package, sync or with the word `async`, as `languages.py` describes it."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import sys
from typing import Any

from recado_client import AsyncClient, AuthAnswer, BadAnswer, BadInput, BadWebhook, Client, Refused, Sent, Unreachable

_KINDS: dict[type[Exception], str] = {
    Refused: "refused",
    Unreachable: "unreachable",
    BadAnswer: "bad_answer",
    BadWebhook: "bad_webhook",
    BadInput: "bad_input",
}
_CLIENTS: dict[str, Any] = {}


async def answer(line: str, kind: type[Any]) -> dict[str, Any]:
    """The answer to one line."""
    asked = json.loads(line)
    options = asked["client"]
    try:
        key = json.dumps(options)
        client = _CLIENTS[key] if key in _CLIENTS else _CLIENTS.setdefault(key, kind(**options))
        if asked["call"] == "describe":
            return {"result": f"{client!r} {client} {client.settings!r}"}
        found = getattr(client, asked["call"])(**asked["with"])
        return {"result": plain(await found if inspect.isawaitable(found) else found)}
    except tuple(_KINDS) as error:
        told: dict[str, Any] = {"kind": _KINDS[type(error)], "text": f"{error} {error!r}"}
        if isinstance(error, Refused):
            told |= {"status": error.status, "code": error.code, "text": str(error)}
        return {"error": told}


def plain(value: Any) -> Any:
    """A result as JSON."""
    if isinstance(value, Sent):
        return dataclasses.asdict(value)
    return value._asdict() if isinstance(value, AuthAnswer) else value


async def main() -> None:
    """Answer every line."""
    kind = AsyncClient if "async" in sys.argv else Client
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await answer(line, kind)), flush=True)


asyncio.run(main())
