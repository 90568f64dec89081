"""The answers to events of clients, and the form of their data."""

from typing import Any

from msgspec import Struct

from app.errors import RecadoError


class ChatRefusal(RecadoError):
    """An event is refused: the answer's code and sentence, and what else the error tells."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.code = code
        self.more = more

    @property
    def answer(self) -> dict[str, Any]:
        """The answer to the client."""
        return {"ok": False, "error": {"code": self.code, "message": str(self), **self.more}}


class ChatUnavailable(ChatRefusal):
    """The database, or Redis, does not answer: what was asked for has not happened, or all of it has."""

    def __init__(self) -> None:
        super().__init__("unavailable", "Not available at the moment, try again.")


class ChatEvent(Struct, kw_only=True, forbid_unknown_fields=True):
    """The data of an event. A field that is not in the subclass is refused."""


class NoData(ChatEvent):
    """An event without data."""


class LogoutData(ChatEvent):
    """`logout`: of this session, or of all."""

    all: bool = False
