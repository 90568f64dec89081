"""The bytes that have passed through a socket, as the kernel counts them: nothing is counted here, and nothing kept."""

import asyncio
import socket
import struct

#: Of the kernel's `tcp_info`: the bytes that the peer has acknowledged, and those that came from it (RFC 4898).
_BYTES = struct.Struct("=QQ")
_BYTES_AT = 120


def wire_bytes(transport: asyncio.BaseTransport) -> tuple[int, int] | None:
    """The bytes read and written, with heads and TLS; those that the peer's machine has not acknowledged are left out.

    None for a socket that is no TCP, or of a system that does not tell.
    """
    own = transport.get_extra_info("socket")
    try:
        info = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_AT + _BYTES.size)
        written, read = _BYTES.unpack_from(info, _BYTES_AT)
    except (OSError, AttributeError, struct.error):
        return None
    return read, written
