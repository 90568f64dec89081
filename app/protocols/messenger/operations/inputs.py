"""The parameters of the operations on a messenger's directory, with their bounds. No I/O."""

from typing import Annotated, Literal

from msgspec import Meta

from app.config.wording import matching
from app.protocols.messenger.bounds import (
    MAX_DESCRIPTION_CHARACTERS,
    MAX_ICON_CHARACTERS,
    MAX_LOGIN_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_PASSWORD_CHARACTERS,
    MAX_SIGN_CHARACTERS,
)
from app.protocols.messenger.directory.fields import RoomKind, RowId, Users
from app.protocols.operations import Inputs, ListInputs

#: The rooms of a page: each is counted with all its members.
MAX_ROOMS_LISTED = 200
#: The longest list of logins in a form.
MAX_LOGINS_CHARACTERS = 100_000

_PLAIN = matching(r"^[^\x00]*\Z", "text without a NUL")
_Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS), _PLAIN]
_Sign = Annotated[str, Meta(max_length=MAX_SIGN_CHARACTERS), _PLAIN]
_Icon = Annotated[str, Meta(max_length=MAX_ICON_CHARACTERS), _PLAIN]
_Description = Annotated[str, Meta(max_length=MAX_DESCRIPTION_CHARACTERS), _PLAIN]
_About = Annotated[str, Meta(max_length=MAX_NAME_CHARACTERS), _PLAIN]
#: A login is checked by itself; a longer text is none.
_Login = Annotated[str, Meta(min_length=1, max_length=4 * MAX_LOGIN_CHARACTERS), _PLAIN]
_Password = Annotated[str, Meta(min_length=1, max_length=MAX_PASSWORD_CHARACTERS), _PLAIN]
_Logins = Annotated[
    str, Meta(max_length=MAX_LOGINS_CHARACTERS, description="Further ones by login, one in each line."), _PLAIN
]
#: A part of a name or a login.
_Part = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS), _PLAIN]
ListOrder = Literal["newest", "oldest"]


class ChatUserPath(Inputs, frozen=True, kw_only=True):
    """The id of a user."""

    user: RowId


class ChatUsersWanted(ListInputs, frozen=True, kw_only=True):
    """Which users to list."""

    #: A part of the login or of the name, without case.
    text: _Part | None = None
    disabled: bool | None = None
    admin: bool | None = None
    online: bool | None = None
    order: ListOrder = "oldest"


class ChatUserNew(Inputs, frozen=True, kw_only=True):
    """A new user."""

    login: _Login
    #: Else it is the login.
    name: _Name | None = None
    sign: _Sign = ""
    icon: _Icon = ""
    admin: bool = False
    #: Without one a password is made. The user has to set another one first.
    password: _Password | None = None


class ChatUserChanges(ChatUserPath, frozen=True, kw_only=True):
    """The values of a user that are to change."""

    login: _Login | None = None
    name: _Name | None = None
    sign: _Sign | None = None
    icon: _Icon | None = None
    admin: bool | None = None


class ChatUserPassword(ChatUserPath, frozen=True, kw_only=True):
    """Another password of a user."""

    #: Without one a password is made. The user has to set another one first.
    password: _Password | None = None


class ChatRoomPath(Inputs, frozen=True, kw_only=True):
    """The id of a room."""

    room: RowId


class ChatRoomsWanted(ListInputs, frozen=True, kw_only=True):
    """Which rooms to list."""

    limit: Annotated[int, Meta(ge=1, le=MAX_ROOMS_LISTED)] = 50
    #: A part of the name, without case.
    text: _Part | None = None
    kind: RoomKind | None = None
    archived: bool | None = None
    order: ListOrder = "oldest"


class ChatRoomShown(ListInputs, frozen=True, kw_only=True):
    """A room, and which part of its members."""

    room: RowId


class ChatRoomValues(Inputs, frozen=True, kw_only=True):
    """The values of a room, as far as they are given."""

    kind: RoomKind | None = None
    icon: _Icon | None = None
    description: _Description | None = None
    #: The object of the application that the room is about; both are empty for none.
    object_type: _About | None = None
    object_id: _About | None = None
    #: Whether members see what was sent before they were members.
    history: bool | None = None
    #: Whether receipts are kept; `kind`: as the kind of the room has it.
    receipts: Literal["kind", "kept", "off"] | None = None
    #: Whole lists, by id.
    members: Users | None = None
    admins: Users | None = None


class ChatRoomNew(ChatRoomValues, frozen=True, kw_only=True):
    """A new room."""

    name: _Name
    member_logins: _Logins = ""
    admin_logins: _Logins = ""


class ChatRoomChanges(ChatRoomValues, frozen=True, kw_only=True):
    """The values of a room that are to change."""

    room: RowId
    name: _Name | None = None


class ChatMemberChange(ChatRoomPath, frozen=True, kw_only=True):
    """A user who is to be a member of a room: by its id or its login."""

    user: RowId | None = None
    login: _Login | None = None
    #: Whether it is an admin of the room; else that stays.
    admin: bool | None = None


class ChatMemberPath(ChatRoomPath, frozen=True, kw_only=True):
    """A member of a room."""

    user: RowId


class RegistrationPath(Inputs, frozen=True, kw_only=True):
    """The id of a registration."""

    id: RowId


class RegistrationsWanted(ListInputs, frozen=True, kw_only=True):
    """Which registrations to list."""

    state: Literal["waiting", "accepted", "refused"] = "waiting"
    order: ListOrder = "oldest"


class ChangesWanted(ListInputs, frozen=True, kw_only=True):
    """Which changes of the directory to list: all, those of a user with its contacts and devices, or of a room."""

    user: RowId | None = None
    room: RowId | None = None
    order: ListOrder = "newest"
