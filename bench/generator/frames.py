"""WebSocket frames of a client: masks frames to send, splits received bytes into frames. Knows no Socket.IO.

Every frame is masked with one repeated byte: a legal mask that makes the server do its full unmasking (a mask of
zeros would let some servers skip it) while it costs the generator a single `bytes.translate`.
"""

from __future__ import annotations

_MASK_BYTE = 0xA5
_MASK = bytes([_MASK_BYTE]) * 4
_TABLE = bytes(value ^ _MASK_BYTE for value in range(256))

TEXT = 0x1
CLOSE = 0x8
PING = 0x9
PONG = 0xA


def client_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return the whole masked frame that carries `payload` to the server."""
    size = len(payload)
    first = 0x80 | opcode
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0xFF)) + size.to_bytes(8, "big")
    return head + _MASK + payload.translate(_TABLE)


def server_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return the whole unmasked frame that carries `payload` to a client (what the floor writes)."""
    size = len(payload)
    first = 0x80 | opcode
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def cut_frame(data: bytes, start: int) -> tuple[int, int]:
    """Return the begin and end of the payload in the frame at `start`; (0, 0) while the frame is incomplete."""
    available = len(data)
    if available < start + 2:
        return 0, 0
    size = data[start + 1]
    begin = start + 2
    if size == 126:
        begin += 2
        size = int.from_bytes(data[start + 2 : begin], "big")
    elif size == 127:
        begin += 8
        size = int.from_bytes(data[start + 2 : begin], "big")
    end = begin + size
    return (begin, end) if begin <= available and end <= available else (0, 0)


def upgrade_request(host: str, path: str) -> bytes:
    """Return an upgrade request with the headers a browser would send."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Origin: http://{host}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) recado-bench\r\n"
        "Accept-Language: en\r\nCache-Control: no-cache\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
