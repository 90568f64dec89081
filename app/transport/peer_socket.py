"""The unix socket on which a node takes what others of its machine pass on to it: HTTP and WebSockets like its port.

Knows who may use it (whoever may open the file), not what comes.
"""

import asyncio
import socket
from functools import partial
from pathlib import Path
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

#: In the scope's `state` of what came in here.
PASSED_ON = "recado.passed_on"

_BACKLOG = 4096


class PeerSocket:
    """One socket file. `start` listens, `close` ends that and removes the file; who gave the path owns its folder."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._server: asyncio.Server | None = None

    async def start(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        """Serves uvicorn's application here too. Raises OSError where no socket can be made."""
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
        """Accepts no more."""
        if self._server is not None:
            self._server.close()
            Path(self.path).unlink(missing_ok=True)


def _bind(path: str) -> socket.socket:
    # A node that was killed has left its file.
    Path(path).unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(path)
        # Before anybody can connect: that takes `listen`.
        Path(path).chmod(0o600)
    except BaseException:
        listening.close()
        raise
    return listening
