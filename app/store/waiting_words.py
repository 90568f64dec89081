"""The answers of lua/_waiting.lua about a queue. Plain code."""

from app.core.message import Waiting
from app.core.ports import Replayed


def to_waiting(answer: list[bytes]) -> Waiting:
    """A part of a queue."""
    pairs = zip(answer[1::2], answer[2::2], strict=True)
    return Waiting([(int(seq), body) for seq, body in pairs], answer[0] == b"1")


def to_replayed(state: bytes, waiting: list[bytes]) -> Replayed:
    """The queue of a device at a later moment."""
    if state.isdigit():
        return Replayed("resync", to_waiting(waiting), int(state))
    return Replayed(state.decode(), to_waiting(waiting))
