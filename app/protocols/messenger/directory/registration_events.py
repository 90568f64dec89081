"""The events of registrations: `register` of strangers, and the decisions on them."""

from collections.abc import Mapping
from typing import Any

from app.core.network import network_of
from app.protocols.messenger.answers import ChatEvent, ChatRefusal
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.directory.fields import LoginText, Name, RowId
from app.protocols.messenger.directory.journal_registrations import Applicant, accept, refuse, register
from app.protocols.messenger.directory.ports import EditsDirectory
from app.protocols.messenger.directory.rules import ChatDoer
from app.protocols.messenger.handlers import Handler, Standing
from app.protocols.messenger.keys_data import KeysData
from app.protocols.messenger.settings import Messenger

_STRANGER = ChatDoer("stranger", is_admin=False)


class RegisterData(KeysData, kw_only=True):
    """`register`"""

    login: LoginText
    name: Name


class RegistrationData(ChatEvent):
    """`registration_accept` and `registration_refuse`"""

    id: RowId


class RegistrationEvents:
    """The events of registrations of all sites. Holds no state; lives as long as the node."""

    def __init__(self, directory: EditsDirectory) -> None:
        self._directory = directory

    def handlers(self) -> dict[str, Handler]:
        """The events by name."""
        return {
            "register": Handler(RegisterData, self.register, Standing.STRANGER),
            "registration_accept": Handler(RegistrationData, self.accept),
            "registration_refuse": Handler(RegistrationData, self.refuse),
        }

    async def register(self, caller: ChatCaller, data: RegisterData) -> None:
        """Keeps a registration until somebody decides on it."""
        if caller.site.require_section(Messenger).registration != "open":
            raise ChatRefusal("not_admin", "Nobody may register here.")
        new = Applicant(data.login, data.name, data.keys, network_of(caller.address))
        await self._directory.change(caller.site, _STRANGER, lambda edit: register(edit, new))

    async def accept(self, caller: ChatCaller, data: RegistrationData) -> Mapping[str, Any]:
        """Makes a user of it."""
        made = await self._directory.change(caller.site, caller.me.id, lambda edit: accept(edit, data.id))
        return {"id": made.id}

    async def refuse(self, caller: ChatCaller, data: RegistrationData) -> None:
        """Refuses it."""
        await self._directory.change(caller.site, caller.me.id, lambda edit: refuse(edit, data.id))
