"""The opening handshake as bytes."""

import pytest

from app.transport import handshake

REQUEST = (
    b"GET /a%20b/?token=1%2F2 HTTP/1.1\r\nhost: x\r\nUpgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"sec-websocket-protocol: a, b\r\nsec-websocket-protocol: c\r\n\r\n"
)


def read(data: bytes) -> handshake.Request:
    """The request as a parser hands it over."""
    line, *lines = data.removesuffix(b"\r\n\r\n").split(b"\r\n")
    method, target, _ = line.split(b" ")
    pairs = [line.split(b": ", 1) for line in lines]
    return handshake.read_request(method, target, [(name.lower(), value) for name, value in pairs])


def test_a_request_is_read() -> None:
    """Path, raw path, query, headers and subprotocols stand in the request as ASGI wants them."""
    request = read(REQUEST)
    assert (request.path, request.raw_path, request.query) == ("/a b/", b"/a%20b/", b"token=1%2F2")
    assert request.headers[:2] == [(b"host", b"x"), (b"upgrade", b"websocket")]
    assert request.subprotocols == ["a", "b", "c"]


def test_the_answer_is_the_one_of_the_rfc() -> None:
    """The sample nonce of RFC 6455, 1.3 gives the sample answer, and added headers follow."""
    answer = handshake.acceptance(read(REQUEST), "b", [(b"x-a", b"1")])
    assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert b"\r\nSec-WebSocket-Protocol: b\r\n" in answer
    assert answer.endswith(b"\r\nx-a: 1\r\n\r\n")


@pytest.mark.parametrize(
    ("old", "new", "status", "named"),
    [
        (b"GET ", b"POST ", 405, "GET"),
        (b" /a%20b/", b" http://x/", 400, "path"),
        (b"/a%20b/", b"/\xff", 400, "path"),
        (b"version: 13", b"version: 8", 426, "Sec-WebSocket-Version"),
        (b"sec-websocket-version: 13\r\n", b"", 426, "Sec-WebSocket-Version"),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ=", 400, "Sec-WebSocket-Key"),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"!", 400, "Sec-WebSocket-Key"),
        (b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"", 400, "Sec-WebSocket-Key"),
        (b"\r\n\r\n", b"\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", 400, "Sec-WebSocket-Key"),
    ],
)
def test_bad_requests_name_what_was_wrong(old: bytes, new: bytes, status: int, named: str) -> None:
    """Each rule of the handshake has its status and names the expected value."""
    with pytest.raises(handshake.BadHandshake, match=named) as caught:
        read(REQUEST.replace(old, new))
    assert caught.value.status == status


def test_a_refusal_is_complete() -> None:
    """A refusal has a length, a type and the end of the connection in its headers, unless the application set them."""
    assert handshake.refusal(403, b"no", []) == (
        b"HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 2\r\n"
        b"connection: close\r\n\r\nno"
    )
    own = handshake.refusal(599, b"", [(b"Content-Type", b"application/json")])
    assert own.startswith(b"HTTP/1.1 599 \r\nContent-Type: application/json\r\n")
    assert b"text/plain" not in own


@pytest.mark.parametrize("header", [(b"a", b"1\r\nb: 2"), (b"a\r\n", b"1"), (b"a:", b"1"), (b"a", b"\x00")])
def test_headers_cannot_be_smuggled_in(header: tuple[bytes, bytes]) -> None:
    """A header that would make another header is refused."""
    with pytest.raises(ValueError, match="control character"):
        handshake.refusal(403, b"", [header])
