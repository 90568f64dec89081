"""The events that an HTTP connection waits for; each has its own deadline."""

import enum


class Wait(enum.Enum):
    """The event that a connection waits for."""

    FIRST_BYTE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    RESPONSE = enum.auto()
    NEXT_REQUEST = enum.auto()
    # No request is read any more.
    END = enum.auto()
