"""The opening handshake as bytes (RFC 6455, section 4.2): the request read and checked, the answers written.

Pure functions; knows nothing of sockets, uvicorn or ASGI.
"""

import binascii
import hashlib
import http
import re
from urllib.parse import quote, unquote

from msgspec import Struct

from app.transport.listener import Header

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES = 16
_VERSION = b"13"
_VERSION_HEADER, _KEY_HEADER, _PROTOCOL_HEADER = (
    b"sec-websocket-version",
    b"sec-websocket-key",
    b"sec-websocket-protocol",
)
_ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
# A byte that could begin another header, or end the head.
_UNSAFE_IN_HEADER = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class BadHandshake(Exception):
    """The upgrade request breaks a rule of the handshake; the text names it."""

    def __init__(self, text: str, status: int = 400, headers: list[Header] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or []


class Request(Struct, frozen=True):
    """An upgrade request; lives until it is answered and the application has returned."""

    path: str
    raw_path: bytes
    query: bytes
    headers: list[Header]
    subprotocols: list[str]
    key: bytes


def read_request(method: bytes, target: bytes, headers: list[Header]) -> Request:
    """Check a request that a parser has read, whose header names are in lower case; raises BadHandshake."""
    if method != b"GET":
        raise BadHandshake("A WebSocket handshake is a GET request.", 405, [(b"allow", b"GET")])
    if not target.startswith(b"/") or not target.isascii():
        raise BadHandshake("The request target must be an ASCII path.")
    headers = [(name, value.strip(b" \t")) for name, value in headers]
    own: dict[bytes, list[bytes]] = {_VERSION_HEADER: [], _KEY_HEADER: [], _PROTOCOL_HEADER: []}
    for name, value in headers:
        if name in own:
            own[name].append(value)
    if own[_VERSION_HEADER] != [_VERSION]:
        raise BadHandshake("Sec-WebSocket-Version must be 13.", 426, [(_VERSION_HEADER, _VERSION)])
    keys = own[_KEY_HEADER]
    if len(keys) != 1 or not _is_key(keys[0]):
        raise BadHandshake("Sec-WebSocket-Key must be 16 bytes in base64, once.")
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode("ascii")
    if "%" in path:
        path = unquote(path)
    protocols = own[_PROTOCOL_HEADER]
    return Request(path, raw_path, query, headers, _tokens(protocols) if protocols else [], keys[0])


def _is_key(key: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(key, strict_mode=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def _tokens(lines: list[bytes]) -> list[str]:
    return [token.strip() for line in lines for token in line.decode("latin-1").split(",")]


def request_head(target: bytes, headers: list[Header]) -> bytes:
    """Return an upgrade request to be read by another node; raises ValueError for a malformed header."""
    return _with_headers(b"GET " + target + b" HTTP/1.1", headers)


def head_without_offer(first_line: bytes, headers: list[Header]) -> bytes:
    """Return a request head that a parser has read, without the line that offers an upgrade."""
    lines = [b"%b: %b" % header for header in headers if header[0] != b"upgrade"]
    return b"\r\n".join([first_line, *lines, b"", b""])


def acceptance(request: Request, subprotocol: str | None, headers: list[Header]) -> bytes:
    """Return the 101 that answers the request; raises ValueError for a malformed header."""
    accept = binascii.b2a_base64(hashlib.sha1(request.key + _GUID, usedforsecurity=False).digest(), newline=False)
    if subprotocol:
        headers = [(b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")), *headers]
    return _with_headers(_ACCEPTED + accept, headers)


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
