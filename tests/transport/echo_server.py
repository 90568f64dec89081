"""A plain ASGI echo over our WebSocket protocol class: `python tests/transport/echo_server.py PORT`.

For protocol suites such as Autobahn's; see test_websocket.py.
"""

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn

sys.path.insert(0, str(Path(__file__).parents[2]))

from app.transport.http import HttpProtocol
from app.transport.websocket import WebSocketProtocol

Message = MutableMapping[str, Any]

# Autobahn's biggest message is 16 MiB.
MAX_MESSAGE_BYTES = 1 << 25


async def echo(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Send back every message of a WebSocket, as an application does that knows nothing of our class."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def main() -> None:
    """Serve on 127.0.0.1 until a signal."""
    uvicorn.run(
        echo,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=MAX_MESSAGE_BYTES,
        lifespan="off",
        log_level="warning",
    )


if __name__ == "__main__":
    main()
