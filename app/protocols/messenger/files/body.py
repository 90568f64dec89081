"""The bytes of an upload as they arrive: one deadline for all of them, and an end that another request may bring."""

import asyncio
from enum import Enum, auto

from app.protocols.http_request import Receive


class BodyEnd(Enum):
    """Why no more bytes come."""

    #: All of them are here.
    WHOLE = auto()
    #: The client has left.
    GONE = auto()
    #: The deadline has passed.
    SLOW = auto()
    #: The client goes on with another request.
    INTERRUPTED = auto()


class UploadBody:
    """The body of one request. Lives as long as the request."""

    def __init__(self, receive: Receive, seconds: float) -> None:
        """The time runs from here."""
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._wait: asyncio.Timeout | None = None
        self._is_interrupted = False
        #: None: more bytes may come.
        self.end: BodyEnd | None = None

    async def next(self) -> bytes:
        """The next bytes; none at the end, which `end` names then."""
        while self.end is None:
            try:
                async with asyncio.timeout_at(self._deadline) as self._wait:
                    event = await self._receive()
            except TimeoutError:
                self.end = BodyEnd.INTERRUPTED if self._is_interrupted else BodyEnd.SLOW
                break
            finally:
                self._wait = None
            if event["type"] == "http.disconnect":
                self.end = BodyEnd.GONE
            elif not event.get("more_body", False):
                self.end = BodyEnd.WHOLE
            if data := event.get("body"):
                return bytes(data)
        return b""

    def interrupt(self) -> None:
        """Ends the body where it is."""
        self._is_interrupted = True
        self._deadline = asyncio.get_running_loop().time()
        if self._wait is not None:
            self._wait.reschedule(self._deadline)
