"""The TLS of a connection as text, for rows and pages: protocol and cipher."""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

#: In the scope's `extensions` of each request and WebSocket over TLS: the text of `tls_of`.
EXTENSION = "recado.tls"


def tls_of(transport: asyncio.BaseTransport) -> str | None:
    """The protocol and cipher of a socket, such as `TLSv1.3 TLS_AES_256_GCM_SHA384`; None without TLS here."""
    cipher = transport.get_extra_info("cipher")
    return f"{cipher[1]} {cipher[0]}" if cipher else None


def entry(transport: asyncio.BaseTransport) -> dict[str, str]:
    """The entry for a scope's `extensions`; none without TLS."""
    text = tls_of(transport)
    return {} if text is None else {EXTENSION: text}


def tls_of_scope(scope: Mapping[str, Any]) -> str | None:
    """The same of a request, by its ASGI scope. A proxy in front of this server ends TLS there: None too."""
    return (scope.get("extensions") or {}).get(EXTENSION)


def shared_tls_of(scope: Mapping[str, Any]) -> str | None:
    """The same as one object for all connections with an equal one: there are few."""
    text = tls_of_scope(scope)
    return None if text is None else sys.intern(text)
