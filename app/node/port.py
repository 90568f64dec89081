"""The TCP port of this machine's processes: one process binds it, each process listens on it.

With SO_REUSEPORT the kernel spreads connections over the sockets of a port by a hash of both addresses: of 800
connections, four processes got 191 to 222 each. With one socket that all processes accept from, one process got 301
(connections one at a time) to 514 (400 at once) of the 800.
"""

import os
import socket
import ssl
from types import TracebackType

from app.canary.wire import OwnPort
from app.errors import ConfigError

BACKLOG = 4096
#: A socket on every address is reached on this one.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}

# Connections inherit these from their listening socket: a peer that vanished without a word is found in two minutes.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def listen(host: str, port: int, setting: str = "port") -> socket.socket:
    """Returns a listening socket for a single process. Port 0 picks a free port. Raises ConfigError, which names the
    setting of the port."""
    try:
        listening = socket.create_server((host, port), family=_family_of(host), backlog=BACKLOG)
    except OSError as error:
        raise _not_free(host, port, error, setting) from None
    _keep_alive(listening)
    return listening


class SharedPort:
    """A port that is held for several processes, also while no process listens. Lives until `close`."""

    def __init__(self, host: str, port: int, setting: str = "port") -> None:
        """Takes the port; 0 picks a free port. Raises ConfigError, which names the setting of the port."""
        if port:
            # This fails if the port is taken. SO_REUSEPORT would share it even with a second server of the same user.
            listen(host, port, setting).close()
        self._host = host
        self._setting = setting
        self._held = self._bind(port)
        self.number: int = self._held.getsockname()[1]

    def __enter__(self) -> "SharedPort":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def open(self) -> socket.socket:
        """Returns a socket on the port for one process. It gets its share of connections once it listens."""
        return self._bind(self.number)

    def close(self) -> None:
        """Releases the port."""
        self._held.close()

    def _bind(self, port: int) -> socket.socket:
        bound = socket.socket(_family_of(self._host), socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _keep_alive(bound)
            bound.bind((self._host, port))
        except OSError as error:
            bound.close()
            raise _not_free(self._host, port, error, self._setting) from None
        return bound


def own_port_of(bound: socket.socket, tls: ssl.SSLContext | None) -> OwnPort:
    """The port of a socket as this machine itself reaches it."""
    host, port = bound.getsockname()[:2]
    return OwnPort(_LOOPBACK.get(host, host), port, tls)


def _keep_alive(listening: socket.socket) -> None:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        # Not every system names all of them.
        if hasattr(socket, name):
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _not_free(host: str, port: int, error: OSError, setting: str) -> ConfigError:
    return ConfigError(
        f"{setting}: expected a free port to listen on, {host}:{port} is not ({os.strerror(error.errno or 0)})"
    )
