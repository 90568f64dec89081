"""TLS of the generator's connections. No certificate is checked: the work of the server is measured."""

from __future__ import annotations

import socket
import ssl

_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_CONTEXT.check_hostname = False
_CONTEXT.verify_mode = ssl.CERT_NONE


def secured(sock: socket.socket) -> ssl.SSLSocket:
    """Return the socket with TLS, which takes the place of `sock`; its handshake has not begun. No session is resumed:
    each device is a client of its own."""
    return _CONTEXT.wrap_socket(sock, do_handshake_on_connect=False)
