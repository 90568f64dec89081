"""The forms of the values in the directory, with their bounds. No I/O."""

from typing import Annotated, Literal

from msgspec import Meta

from app.protocols.messenger.bounds import (
    MAX_DESCRIPTION_CHARACTERS,
    MAX_ICON_CHARACTERS,
    MAX_LOGIN_CHARACTERS,
    MAX_MEMBERS,
    MAX_NAME_CHARACTERS,
    MAX_SIGN_CHARACTERS,
)

#: An id of a row: JavaScript knows it exactly.
RowId = Annotated[int, Meta(ge=1, le=2**53)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]
Sign = Annotated[str, Meta(max_length=MAX_SIGN_CHARACTERS)]
Icon = Annotated[str, Meta(max_length=MAX_ICON_CHARACTERS)]
Description = Annotated[str, Meta(max_length=MAX_DESCRIPTION_CHARACTERS)]
RoomKind = Literal["chat", "channel", "admins"]
Users = Annotated[list[RowId], Meta(max_length=MAX_MEMBERS)]
#: A login is checked by itself; a longer text is none.
LoginText = Annotated[str, Meta(max_length=4 * MAX_LOGIN_CHARACTERS)]
AboutText = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]
