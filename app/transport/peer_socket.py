"""The unix socket on which a node takes requests from the other nodes of its machine: HTTP and WebSockets, as its port.

The right to open the file is the right to use it. Knows nothing of the requests.
"""

import asyncio
import socket
from functools import partial
from pathlib import Path
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

#: In the scope's `state` of each request that came over this socket.
PASSED_ON = "recado.passed_on"

_BACKLOG = 4096


class PeerSocket:
    """One socket file. `start` listens, `close` ends that and removes the file; the folder belongs to the caller."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._server: asyncio.Server | None = None

    async def start(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        """Serve uvicorn's application on this socket too. Raises OSError where no socket can be made."""
        state = {**app_state, PASSED_ON: True}
        protocol_class: Any = config.http_protocol_class
        protocol = partial(protocol_class, config=config, server_state=server_state, app_state=state)
        listening = _bind(self.path)
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(protocol, sock=listening, backlog=_BACKLOG)
        except BaseException:
            listening.close()
            raise

    def close(self) -> None:
        """Accept no more connections."""
        if self._server is not None:
            self._server.close()
            Path(self.path).unlink(missing_ok=True)


def _bind(path: str) -> socket.socket:
    # A killed node leaves its file behind.
    Path(path).unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(path)
        # Before any process can connect, which takes `listen`.
        Path(path).chmod(0o600)
    except BaseException:
        listening.close()
        raise
    return listening
