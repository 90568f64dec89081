"""The life of an Engine.IO session, as a list of states."""

import enum


class SessionState(enum.Enum):
    """The life of a session."""

    POLLING = "requests carry it"
    PROBING = "requests carry it, a WebSocket has been offered and not yet taken"
    WEBSOCKET = "a WebSocket carries it"
    LEAVING = "closed by us, the client does not know yet: nothing is sent any more, acks are still read"
    CLOSING = "the client is being told: by a close frame that it answers, or by the last packets of its next poll"
    CLOSED = "over"


ENDING = (SessionState.CLOSING, SessionState.LEAVING, SessionState.CLOSED)
