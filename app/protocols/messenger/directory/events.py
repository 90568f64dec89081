"""The events by which users and admins change the directory: what each reads, and its answer."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from app.protocols.messenger.answers import ChatEvent
from app.protocols.messenger.bounds import MAX_NAME_CHARACTERS
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.directory.fields import (
    AboutText,
    Description,
    Icon,
    LoginText,
    Name,
    RoomKind,
    RowId,
    Sign,
    Users,
)
from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.directory.journal_people import (
    ContactChange,
    PersonChange,
    change_contact,
    change_person,
    create_person,
    name_device,
)
from app.protocols.messenger.directory.journal_rooms import (
    RoomChange,
    archive_room,
    change_room,
    create_room,
    leave_room,
)
from app.protocols.messenger.directory.ports import EditsDirectory
from app.protocols.messenger.handlers import Handler
from app.protocols.messenger.journal_users import NewUser
from app.protocols.messenger.keys_data import KeysData

_T = TypeVar("_T")


class ProfileData(ChatEvent):
    """`profile`"""

    name: Name | UnsetType = UNSET
    sign: Sign | UnsetType = UNSET
    icon: Icon | UnsetType = UNSET


class ContactData(ChatEvent):
    """`contact`"""

    user: RowId
    name: Name | UnsetType | None = UNSET
    muted: bool | UnsetType = UNSET
    blocked: bool | UnsetType = UNSET


class DeviceNameData(ChatEvent):
    """`device_name`"""

    name: Annotated[str, Meta(max_length=MAX_NAME_CHARACTERS)]


class AboutData(Struct, forbid_unknown_fields=True):
    """`object` of a room."""

    type: AboutText
    id: AboutText


class RoomData(ChatEvent):
    """The values of `room_create` and `room_change`."""

    kind: RoomKind | UnsetType = UNSET
    icon: Icon | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    object: AboutData | UnsetType | None = UNSET
    history: bool | UnsetType = UNSET
    receipts: bool | UnsetType | None = UNSET
    members: Users | UnsetType = UNSET
    admins: Users | UnsetType = UNSET

    def change(self, name: str | UnsetType) -> RoomChange:
        """The change that it asks for."""
        about = self.object
        return RoomChange(
            name=name,
            kind=self.kind,
            icon=self.icon,
            description=self.description,
            about=(about.type, about.id) if isinstance(about, AboutData) else about,
            has_history=self.history,
            has_receipts=self.receipts,
            members=self.members,
            admins=self.admins,
        )


class RoomCreateData(RoomData, kw_only=True):
    """`room_create`"""

    name: Name


class RoomChangeData(RoomData, kw_only=True):
    """`room_change`"""

    id: RowId
    name: Name | UnsetType = UNSET


class RoomLeaveData(ChatEvent):
    """`room_leave`"""

    id: RowId


class RoomArchiveData(ChatEvent):
    """`room_archive`"""

    id: RowId
    archived: bool = True


class UserCreateData(ChatEvent):
    """`user_create`"""

    login: LoginText
    name: Name | None = None
    sign: Sign = ""
    icon: Icon = ""
    admin: bool = False
    #: Without a password the user cannot log in yet.
    password: KeysData | None = None


class UserChangeData(ProfileData, kw_only=True):
    """`user_change`"""

    id: RowId
    login: LoginText | UnsetType = UNSET
    admin: bool | UnsetType = UNSET
    password: KeysData | UnsetType = UNSET


class UserDisableData(ChatEvent):
    """`user_disable`"""

    id: RowId
    disabled: bool = True


class DirectoryEvents:
    """The events of the directory of all sites. Holds no state; lives as long as the node."""

    def __init__(self, directory: EditsDirectory) -> None:
        self._directory = directory

    def handlers(self) -> dict[str, Handler]:
        """The events by name. (Whether a user is an admin is decided within the transaction.)"""
        return {
            "profile": Handler(ProfileData, self.profile),
            "contact": Handler(ContactData, self.contact),
            "device_name": Handler(DeviceNameData, self.device_name),
            "room_create": Handler(RoomCreateData, self.room_create),
            "room_change": Handler(RoomChangeData, self.room_change),
            "room_leave": Handler(RoomLeaveData, self.room_leave),
            "room_archive": Handler(RoomArchiveData, self.room_archive),
            "user_create": Handler(UserCreateData, self.user_create),
            "user_change": Handler(UserChangeData, self.user_change),
            "user_disable": Handler(UserDisableData, self.user_disable),
        }

    async def profile(self, caller: ChatCaller, data: ProfileData) -> None:
        """Changes the user's own name, sign and icon."""
        change = PersonChange(name=data.name, sign=data.sign, icon=data.icon)
        await self._change(caller, lambda edit: change_person(edit, edit.me, change))

    async def contact(self, caller: ChatCaller, data: ContactData) -> None:
        """Makes or changes a contact."""
        change = ContactChange(user=data.user, name=data.name, is_muted=data.muted, is_blocked=data.blocked)
        await self._change(caller, lambda edit: change_contact(edit, change))

    async def device_name(self, caller: ChatCaller, data: DeviceNameData) -> None:
        """Names the device."""
        await self._change(caller, lambda edit: name_device(edit, caller.device_id, data.name))

    async def room_create(self, caller: ChatCaller, data: RoomCreateData) -> Mapping[str, Any]:
        """Makes a room."""
        return {"id": await self._change(caller, lambda edit: create_room(edit, data.change(data.name)))}

    async def room_change(self, caller: ChatCaller, data: RoomChangeData) -> None:
        """Changes a room."""
        await self._change(caller, lambda edit: change_room(edit, data.id, data.change(data.name)))

    async def room_leave(self, caller: ChatCaller, data: RoomLeaveData) -> None:
        """Leaves a room."""
        await self._change(caller, lambda edit: leave_room(edit, data.id))

    async def room_archive(self, caller: ChatCaller, data: RoomArchiveData) -> None:
        """Archives a room, or takes it back."""
        await self._change(caller, lambda edit: archive_room(edit, data.id, data.archived))

    async def user_create(self, caller: ChatCaller, data: UserCreateData) -> Mapping[str, Any]:
        """Makes a user."""
        new = NewUser(
            login=data.login,
            keys=data.password.keys if data.password is not None else None,
            name=data.name or "",
            sign=data.sign,
            icon=data.icon,
            is_admin=data.admin,
        )
        return {"id": (await self._change(caller, lambda edit: create_person(edit, new))).id}

    async def user_change(self, caller: ChatCaller, data: UserChangeData) -> None:
        """Changes a user."""
        change = PersonChange(
            login=data.login,
            name=data.name,
            sign=data.sign,
            icon=data.icon,
            is_admin=data.admin,
            keys=data.password.keys if isinstance(data.password, KeysData) else UNSET,
        )
        await self._change(caller, lambda edit: change_person(edit, data.id, change))

    async def user_disable(self, caller: ChatCaller, data: UserDisableData) -> None:
        """Disables a user, or takes that back."""
        await self._change(caller, lambda edit: change_person(edit, data.id, PersonChange(is_disabled=data.disabled)))

    async def _change(self, caller: ChatCaller, work: Callable[[DirectoryEdit], Awaitable[_T]]) -> _T:
        return await self._directory.change(caller.site, caller.me.id, work)
