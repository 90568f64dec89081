"""Sends requests to a running server, as a tenant's backend would; for the command line."""

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import httpx
from msgspec import Struct

from app.backends.exact_pool import REASONS
from app.backends.exchange import BackendError, reason_of
from app.backends.lean_wires import Origin, parse

_TIMEOUT_SECONDS = 10.0
#: A question may take ten seconds on the server, and wait for the journal before.
_ASK_TIMEOUT_SECONDS = 20.0
_MAX_ANSWER_BYTES = 16_000_000
_GOES_AWAY = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)

_Read = TypeVar("_Read")


class SendAnswer(Struct, frozen=True):
    """The server's answer."""

    status: int
    text: str


class RunningServer(Struct, frozen=True):
    """The server that a command asks. Lives as long as the command."""

    url: str
    #: The certificate of a server on this machine, whatever name it is for; None: one that `ca` has signed.
    certificate: Path | None = None
    #: The authorities to trust; None: those of the system.
    ca: Path | None = None
    #: The certificate that the command shows, and its key, where they are not in one file.
    client_cert: Path | None = None
    client_key: Path | None = None

    def place(self, path: str) -> str:
        """The URL of a path."""
        return f"{self.url.rstrip('/')}{path}"

    def origin(self, path: str) -> tuple[Origin, bytes, bytes]:
        """Where a path is, for requests over `LeanWires`: see `parse`. Raises BackendError."""
        try:
            return parse(self.place(path))
        except httpx.InvalidURL:
            raise BackendError("the URL is not usable", "InvalidURL") from None

    def client(self, timeout_seconds: float = _TIMEOUT_SECONDS) -> httpx.Client:
        """A client for it, to be closed by the caller. Raises BackendError when the certificate cannot be read."""
        return httpx.Client(timeout=timeout_seconds, trust_env=False, verify=self.trust())

    def trust(self) -> ssl.SSLContext | bool:
        """The certificates to trust and to show; True: those of the system. Raises BackendError."""
        if self.certificate is None and self.ca is None and self.client_cert is None:
            return True
        trust = _read(self.ca or self.certificate, lambda file: ssl.create_default_context(cafile=file))
        if self.ca is None and self.certificate is not None:
            # The address is that of this machine, and the certificate itself is known.
            trust.check_hostname = False
            trust.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if (cert := self.client_cert) is not None:
            _read(cert, lambda file: trust.load_cert_chain(cert, self.client_key))
        return trust


def _read(file: Path | None, read: Callable[[Path | None], _Read]) -> _Read:
    try:
        return read(file)
    except ssl.SSLError:
        raise BackendError(f"{file}: expected a certificate in PEM, and its key", "Unreadable") from None
    except OSError as error:
        raise BackendError(f"{error.filename or file}: {error.strerror}", "Unreadable") from None


def _failure(server: RunningServer, error: Exception) -> BackendError:
    """The failure of a request. A server that refuses a client for its certificate may say so, or just go away."""
    reason = reason_of(error, REASONS)
    if server.url.startswith("https:") and isinstance(error, _GOES_AWAY):
        reason += "; if it asks clients for a certificate, see --cert"
    return BackendError(reason, type(error).__name__)


def post_send(server: RunningServer, site: str, api_key: str, body: bytes, *, resync: bool = False) -> SendAnswer:
    """Posts the JSON body to the server's /send; blocks until it answers. Raises BackendError."""
    url = server.place(f"/send?site={quote(site, safe='')}&resync={str(resync).lower()}")
    # The key goes in a header: a query would leave it in the logs of every proxy on the way.
    headers = [(b"x-api-key", api_key.encode()), (b"content-type", b"application/json")]
    try:
        with server.client() as client:
            response = client.post(url, headers=headers, content=body)
    except tuple(REASONS) as error:
        raise _failure(server, error) from None
    return SendAnswer(response.status_code, response.text.strip())


def send_each(
    server: RunningServer, place: str, api_key: str, requests: Iterable[tuple[str, str, bytes]]
) -> Iterator[SendAnswer]:
    """Sends each request: a method, a path behind `place`, a JSON body. Blocks for each answer. Raises BackendError."""
    headers = [(b"x-api-key", api_key.encode()), (b"content-type", b"application/json")]
    with server.client() as client:
        for method, path, body in requests:
            try:
                response = client.request(method, server.place(place + path), headers=headers, content=body)
            except tuple(REASONS) as error:
                raise _failure(server, error) from None
            yield SendAnswer(response.status_code, response.text.strip())


def ask(server: RunningServer, method: str, path: str, query: Mapping[str, str], api_key: str) -> SendAnswer:
    """Asks a server with the key of a site; blocks until it answers. Raises BackendError."""
    headers = [(b"x-api-key", api_key.encode()), (b"accept", b"application/json")]
    try:
        with (
            server.client(_ASK_TIMEOUT_SECONDS) as client,
            client.stream(method, server.place(path), params=dict(query), headers=headers) as response,
        ):
            body = b""
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _MAX_ANSWER_BYTES:
                    raise BackendError(f"answer longer than {_MAX_ANSWER_BYTES} bytes", "AnswerTooLong")
    except tuple(REASONS) as error:
        raise _failure(server, error) from None
    return SendAnswer(response.status_code, body.decode(errors="replace").strip())


def call_api(
    server: RunningServer, method: str, path: str, token: str, body: Mapping[str, object] | None
) -> SendAnswer:
    """Asks the operators' API with a token; blocks until it answers. Raises BackendError."""
    headers = [(b"authorization", b"Bearer " + token.encode()), (b"accept", b"application/json")]
    try:
        with server.client(_ASK_TIMEOUT_SECONDS) as client:
            response = client.request(method, server.place(path), headers=headers, json=body)
    except tuple(REASONS) as error:
        raise _failure(server, error) from None
    return SendAnswer(response.status_code, response.text.strip())
