"""The outcome of one webhook POST, for code that knows no HTTP."""

from msgspec import Struct


class HookAnswer(Struct, frozen=True):
    """The outcome of one POST. Status 0: there was no answer, and `error` says why."""

    status: int
    ms: int
    text: str = ""
    error: str = ""
