"""Sends requests to a running server, as a tenant's backend would; for the command line."""

from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote

import httpx
from msgspec import Struct

from app.backends.exact_pool import REASONS
from app.backends.exchange import BackendError, reason_of

_TIMEOUT_SECONDS = 10.0
#: A question may take ten seconds on the server, and wait for the journal before.
_ASK_TIMEOUT_SECONDS = 20.0
_MAX_ANSWER_BYTES = 16_000_000


class SendAnswer(Struct, frozen=True):
    """The server's answer."""

    status: int
    text: str


def post_send(server_url: str, site: str, api_key: str, body: bytes, *, resync: bool = False) -> SendAnswer:
    """Posts the JSON body to the server's /send; blocks until it answers. Raises BackendError."""
    url = f"{server_url.rstrip('/')}/send?site={quote(site, safe='')}&resync={str(resync).lower()}"
    # The key goes in a header: a query would leave it in the logs of every proxy on the way.
    headers = [(b"x-api-key", api_key.encode()), (b"content-type", b"application/json")]
    try:
        with httpx.Client(timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
            response = client.post(url, headers=headers, content=body)
    except tuple(REASONS) as error:
        raise BackendError(reason_of(error, REASONS), type(error).__name__) from None
    return SendAnswer(response.status_code, response.text.strip())


def send_each(
    server_url: str, place: str, api_key: str, requests: Iterable[tuple[str, str, bytes]]
) -> Iterator[SendAnswer]:
    """Sends each request: a method, a path behind `place`, a JSON body. Blocks for each answer. Raises BackendError."""
    headers = [(b"x-api-key", api_key.encode()), (b"content-type", b"application/json")]
    with httpx.Client(timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
        for method, path, body in requests:
            try:
                response = client.request(
                    method, f"{server_url.rstrip('/')}{place}{path}", headers=headers, content=body
                )
            except tuple(REASONS) as error:
                raise BackendError(reason_of(error, REASONS), type(error).__name__) from None
            yield SendAnswer(response.status_code, response.text.strip())


def ask(server_url: str, method: str, path: str, query: Mapping[str, str], api_key: str) -> SendAnswer:
    """Asks a server with the key of a site; blocks until it answers. Raises BackendError."""
    headers = [(b"x-api-key", api_key.encode()), (b"accept", b"application/json")]
    url = f"{server_url.rstrip('/')}{path}"
    try:
        with (
            httpx.Client(timeout=_ASK_TIMEOUT_SECONDS, trust_env=False) as client,
            client.stream(method, url, params=dict(query), headers=headers) as response,
        ):
            body = b""
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _MAX_ANSWER_BYTES:
                    raise BackendError(f"answer longer than {_MAX_ANSWER_BYTES} bytes", "AnswerTooLong")
    except tuple(REASONS) as error:
        raise BackendError(reason_of(error, REASONS), type(error).__name__) from None
    return SendAnswer(response.status_code, body.decode(errors="replace").strip())
