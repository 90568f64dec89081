"""The events at a site beside a backend: those that change logins are the backend's affair, and refused in words."""

from collections.abc import Mapping
from typing import Any

from app.protocols.messenger.answers import ChatEvent, ChatRefusal, LogoutData
from app.protocols.messenger.chatter import Chatter
from app.protocols.messenger.handlers import EntranceHandler, Handler, Standing

#: The events that make, change or prove a login.
OF_LOGINS = (
    *("login", "proof", "password", "register", "registration_accept", "registration_refuse"),
    *("user_create", "user_change", "user_disable"),
)


class AnyData(ChatEvent, forbid_unknown_fields=False):
    """The data of an event that is refused whatever they are."""


def events_beside(handlers: Mapping[str, Handler]) -> dict[str, Handler]:
    """The events by name, made of those of a site with users of its own."""
    log_out = handlers["logout"]

    async def end_session(chatter: Chatter, data: LogoutData) -> Any:
        """`logout`: of this session alone; the token of the backend is as good as before."""
        if data.all:
            raise _refusal()
        return await log_out.handle(chatter, data)

    refused = {name: Handler(AnyData, _refuse, Standing.STRANGER) for name in OF_LOGINS}
    return {**handlers, **refused, "logout": EntranceHandler(LogoutData, end_session, Standing.USER)}


async def _refuse(caller: Any, data: AnyData) -> None:
    raise _refusal()


def _refusal() -> ChatRefusal:
    return ChatRefusal("of_backend", "The users of this site are those of its backend, which alone lets them in.")
