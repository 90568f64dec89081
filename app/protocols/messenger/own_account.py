"""The events `password` and `logout`: what a user does with its own account."""

from functools import partial
from typing import Any

from msgspec import field

from app.protocols.messenger.answers import ChatRefusal, LogoutData
from app.protocols.messenger.chatter import Chatter
from app.protocols.messenger.entrance import Entrance
from app.protocols.messenger.handlers import EntranceHandler, Handler, Standing
from app.protocols.messenger.keys_data import KeysData
from app.protocols.messenger.logins import Forms, Logins, ScramText
from app.protocols.messenger.scram import OWN_SCHEME

LOGGED_OUT = "logged out"


class PasswordData(KeysData, kw_only=True):
    """`password`: the proof of the old one, and the keys of the new one."""

    data: ScramText
    forms: Forms = field(default_factory=dict)

    @property
    def proofs(self) -> dict[str, str]:
        """The messages by form of the old password."""
        return {**self.forms, OWN_SCHEME: self.data}


class OwnAccount:
    """The accounts of users on one node, as they handle them. Lives as long as the node."""

    def __init__(self, entrance: Entrance, logins: Logins) -> None:
        self._entrance = entrance
        self._logins = logins

    def handlers(self) -> dict[str, Handler]:
        """Its events."""
        return {
            "password": EntranceHandler(PasswordData, self.change_password, Standing.CHANGING),
            "logout": EntranceHandler(LogoutData, self.log_out, Standing.CHANGING),
        }

    async def change_password(self, chatter: Chatter, data: PasswordData) -> dict[str, Any]:
        """`password`: sets another one. Every other session of the user ends."""
        attempt, chatter.attempt = chatter.attempt, None
        caller, keys = chatter.caller, data.keys
        if attempt is None:
            raise ChatRefusal("bad_request", "Expected a login before the new password.")
        if attempt.candidate is not None and attempt.candidate.user.id != caller.me.id:
            raise ChatRefusal("impersonation", "Expected the login of the user of this connection.")
        was_changing = caller.me.must_change
        answer, candidate = await self._logins.prove(caller, attempt, data.proofs)
        token, entered = await self._logins.replace_keys(caller, candidate, keys)
        self._entrance.identify(chatter, entered)
        if was_changing:
            chatter.then = partial(self._entrance.open, chatter, entered, token)
        return {"data": answer, "session": token}

    async def log_out(self, chatter: Chatter, data: LogoutData) -> None:
        """`logout`: the session ends, and the connection once the client has the answer."""
        await self._logins.end_sessions(chatter.caller, are_all=data.all)
        chatter.then = partial(_close, chatter)


async def _close(chatter: Chatter) -> None:
    chatter.close(LOGGED_OUT)
