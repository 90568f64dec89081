"""The users of the demo and their room."""

import structlog

from app.config.settings import Site
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.bounds import LEAST_ITERATIONS
from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.directory.journal_people import create_person
from app.protocols.messenger.directory.journal_rooms import RoomChange, create_room
from app.protocols.messenger.directory.ports import EditsDirectory
from app.protocols.messenger.directory.rules import ChatDoer
from app.protocols.messenger.journal_users import NewUser, find_login
from app.protocols.messenger.scram import keys_of

#: The passwords by login, which the page shows.
_PASSWORDS = {"anna": "anna in the demo", "ben": "ben in the demo"}
#: The one that lets strangers in.
_ADMIN = "anna"
_ROOM = "Lunch"

_log = structlog.get_logger(__name__)


async def fill_demo(directory: EditsDirectory, site: Site) -> None:
    """Makes the users and their room, unless they are there. A failure is logged, and ends nothing."""
    try:
        await directory.change(site, ChatDoer("server"), _make)
    except ChatRefusal as error:
        _log.warning("demo not filled", site=site.name, reason=str(error))


async def _make(edit: DirectoryEdit) -> None:
    made = []
    for login, password in _PASSWORDS.items():
        if await find_login(*edit.place, login) is None:
            keys = keys_of(password, LEAST_ITERATIONS)
            new = NewUser(login=login, name=login.title(), keys=keys, must_change=False, is_admin=login == _ADMIN)
            made.append((await create_person(edit, new)).id)
    if len(made) == len(_PASSWORDS):
        await create_room(edit, RoomChange(name=_ROOM, members=made, admins=made[:1]))
