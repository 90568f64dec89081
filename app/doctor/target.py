"""The address of a server as a URL names it: host, port, TLS and the beginning of the path."""

import ssl
from urllib.parse import quote, urlsplit

from msgspec import Struct, structs

from app.errors import ConfigError

_PORTS = {"http": 80, "https": 443}


class ProbeTarget(Struct, frozen=True):
    """Where requests go, and how long an answer may take. Lives as long as the examination."""

    host: str
    port: int
    #: None: plain HTTP.
    tls: ssl.SSLContext | None
    #: The path in front of Recado's own, without a slash at its end.
    prefix: str = ""
    #: A connection, its handshake of TLS and one answer.
    answer_seconds: float = 10.0

    @property
    def authority(self) -> str:
        """The value of the header Host."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _PORTS[self.scheme] else f"{name}:{self.port}"

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return "https" if self.tls else "http"

    @property
    def url(self) -> str:
        """The URL, without a login or a query."""
        return f"{self.scheme}://{self.authority}{self.prefix}"

    @property
    def root(self) -> "ProbeTarget":
        """The same server without the prefix."""
        return structs.replace(self, prefix="")


def read_target(url: str, tls: ssl.SSLContext, answer_seconds: float = 10.0) -> ProbeTarget:
    """The target that a URL names. Raises ConfigError, without the URL, which may hold a login."""
    expected = "URL: expected http:// or https:// with a host, and no login"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(expected) from None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
        raise ConfigError(expected)
    try:
        host = parts.hostname.encode("idna").decode()
    except UnicodeError:
        raise ConfigError(expected) from None
    prefix = quote(parts.path.rstrip("/").removesuffix("/socket.io"), safe="/%:@!$&'()*+,;=~-._")
    context = tls if parts.scheme == "https" else None
    return ProbeTarget(host, _PORTS[parts.scheme] if port is None else port, context, prefix, answer_seconds)
