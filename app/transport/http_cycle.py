"""One request and its response under uvicorn, with a client that may have ended its side of the connection.

Knows nothing of the bytes on the wire. The names of uvicorn that this module uses are listed in `internals`.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class RequestCycle(RequestResponseCycle):
    """uvicorn's cycle of one request; lives until the response is complete."""

    #: Whether the client sends no more, and whether the application has all of the body.
    is_half_closed = False
    _is_read = False

    async def receive(self) -> Any:
        """Return the body; a half-closed client counts as gone for an application that waits for its leaving.

        The client may only have ended its side behind the request, and is owed an answer. A poll that waits watches
        for the client's end, and takes this one for it.
        """
        if self.is_half_closed and self._is_read:
            return self.end()
        message = await super().receive()
        if message["type"] == "http.request":
            if self.is_half_closed and self._is_read:
                return self.end()
            self._is_read = not message["more_body"]
        return message

    def end(self) -> Any:
        """Close the connection without a response, and return what tells the application."""
        self.disconnected = True
        self.transport.close()
        return {"type": "http.disconnect"}

    def half_close(self) -> None:
        """Learn that the client has ended its side."""
        self.is_half_closed = True
        self.message_event.set()

    def disconnect(self) -> None:
        """Learn that the client is gone: nothing is written any more."""
        self.disconnected = True
        self.message_event.set()
