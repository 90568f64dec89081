"""Requests to a provider of identities: short answers in JSON, in bounded time, never led elsewhere by a redirect."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from app.backends.exact_pool import REASONS, default_context
from app.backends.exchange import BackendError, read_within_bound, reason_of

#: The longest answer, and the time of a request.
MAX_ANSWER_BYTES = 262_144
REQUEST_SECONDS = 8.0


class ProviderDoor:
    """Asks a provider. Keeps no connection: a login is rare."""

    async def ask(
        self, url: str, form: Mapping[str, str] | None = None, basic: tuple[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of an answer to a GET, or with a form to a POST; an answer of another kind is an empty
        object. Raises BackendError."""
        method = "GET" if form is None else "POST"
        auth = httpx.BasicAuth(*basic) if basic is not None else None
        try:
            async with (
                asyncio.timeout(REQUEST_SECONDS),
                httpx.AsyncClient(trust_env=False, verify=default_context(), timeout=REQUEST_SECONDS) as client,
                client.stream(method, url, data=form, auth=auth, headers={"accept": "application/json"}) as response,
            ):
                body = await read_within_bound(response.aiter_bytes(), MAX_ANSWER_BYTES)
        except TimeoutError:
            raise BackendError("timed out", "TimeoutError") from None
        except tuple(REASONS) as error:
            raise BackendError(reason_of(error, REASONS), type(error).__name__) from None
        try:
            return response.status_code, msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return response.status_code, {}
