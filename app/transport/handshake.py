"""The opening handshake as bytes (RFC 6455, section 4.2): the request read and checked, the answers written.

Pure functions; knows nothing of sockets, uvicorn or ASGI.
"""

import base64
import binascii
import hashlib
import http
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from app.transport.listener import Header

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES = 16
_VERSION = b"13"
# A byte that could begin another header, or end the head.
_UNSAFE_IN_HEADER = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class BadHandshake(Exception):
    """The upgrade request breaks a rule of the handshake; the text names it."""

    def __init__(self, text: str, status: int = 400, headers: list[Header] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or []


@dataclass(frozen=True, slots=True)
class Request:
    """An upgrade request; lives until it is answered and the application has returned."""

    path: str
    raw_path: bytes
    query: bytes
    headers: list[Header]
    subprotocols: list[str]
    key: bytes


UNREADABLE = Request("", b"", b"", [], [], b"")


def read_request(data: bytes) -> Request:
    """Read a whole request head, whose HTTP is known to be well-formed; raises BadHandshake."""
    request_line, *lines = data.removesuffix(b"\r\n\r\n").split(b"\r\n")
    method, _, rest = request_line.partition(b" ")
    target = rest.rpartition(b" ")[0]
    if method != b"GET":
        raise BadHandshake("A WebSocket handshake is a GET request.", 405, [(b"allow", b"GET")])
    if not target.startswith(b"/") or not target.isascii():
        raise BadHandshake("The request target must be an ASCII path.")
    headers = []
    for line in lines:
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.strip(b" \t")))
    raw_path, _, query = target.partition(b"?")
    path = unquote(raw_path.decode("ascii"))
    return Request(path, raw_path, query, headers, _subprotocols(headers), _checked_key(headers))


def _checked_key(headers: list[Header]) -> bytes:
    if _values(headers, b"sec-websocket-version") != [_VERSION]:
        raise BadHandshake("Sec-WebSocket-Version must be 13.", 426, [(b"sec-websocket-version", _VERSION)])
    keys = _values(headers, b"sec-websocket-key")
    try:
        is_valid = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == _KEY_BYTES
    except binascii.Error:
        is_valid = False
    if not is_valid:
        raise BadHandshake("Sec-WebSocket-Key must be 16 bytes in base64, once.")
    return keys[0]


def _subprotocols(headers: list[Header]) -> list[str]:
    return [
        token.strip()
        for value in _values(headers, b"sec-websocket-protocol")
        for token in value.decode("latin-1").split(",")
    ]


def _values(headers: list[Header], name: bytes) -> list[bytes]:
    return [value for header, value in headers if header == name]


def request_head(target: bytes, headers: list[Header]) -> bytes:
    """Return an upgrade request to be read by another node; raises ValueError for a malformed header."""
    return _with_headers(b"GET " + target + b" HTTP/1.1", headers)


def head_without_offer(first_line: bytes, headers: list[Header]) -> bytes:
    """Return a request head that a parser has read, without the line that offers an upgrade."""
    lines = [b"%b: %b" % header for header in headers if header[0] != b"upgrade"]
    return b"\r\n".join([first_line, *lines, b"", b""])


def acceptance(request: Request, subprotocol: str | None, headers: list[Header]) -> bytes:
    """Return the 101 that answers the request; raises ValueError for a malformed header."""
    accept = base64.b64encode(hashlib.sha1(request.key + _GUID, usedforsecurity=False).digest())
    lines = [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Accept", accept),
    ]
    if subprotocol:
        lines.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
    return _head(101, [*lines, *headers])


def refusal(status: int, body: bytes, headers: list[Header]) -> bytes:
    """Return an answer that ends the connection; raises ValueError for a malformed header."""
    lines = list(headers)
    names = {name.lower() for name, _ in headers}
    for name, value in (
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ):
        if name not in names:
            lines.append((name, value))
    return _head(status, lines) + body


def _head(status: int, headers: list[Header]) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return _with_headers(f"HTTP/1.1 {status} {phrase}".encode(), headers)


def _with_headers(first_line: bytes, headers: list[Header]) -> bytes:
    lines = [first_line]
    for name, value in headers:
        if _UNSAFE_IN_HEADER.search(name) or _UNSAFE_IN_HEADER.search(value) or b":" in name:
            raise ValueError(f"header {quote(name)} holds a control character")
        lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n"
