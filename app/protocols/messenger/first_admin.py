"""The admin that a site's settings name: made at each start, unless a user has its login."""

import asyncio

import structlog

from app.config.settings import Site
from app.protocols.messenger.answers import ChatRefusal, ChatUnavailable
from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.directory.journal_people import create_person
from app.protocols.messenger.directory.ports import EditsDirectory
from app.protocols.messenger.directory.rules import ChatDoer
from app.protocols.messenger.journal_users import NewUser, find_login
from app.protocols.messenger.operations.made_passwords import FirstPasswords
from app.protocols.messenger.settings import Messenger

_RETRY_SECONDS = 1.0
_SERVER = ChatDoer("server")

_log = structlog.get_logger(__name__)


async def make_admin(directory: EditsDirectory, passwords: FirstPasswords, site: Site) -> None:
    """Makes the admin, with retry while SQL is away. A failure is logged, and ends nothing. Several processes may do so
    at once: the transactions of a site follow each other, and one of them makes it."""
    if site.require_section(Messenger).admin_login is None:
        return
    while True:
        try:
            await _make(directory, passwords, site)
            return
        except ChatUnavailable:
            await asyncio.sleep(_RETRY_SECONDS)
        except ChatRefusal as refusal:
            _log.error("messenger admin not made", site=site.name, reason=str(refusal))
            return


async def _make(directory: EditsDirectory, passwords: FirstPasswords, site: Site) -> None:
    settings = site.require_section(Messenger)
    login = settings.admin_login
    assert login is not None, "checked by the caller"

    async def is_there(edit: DirectoryEdit) -> bool:
        return await find_login(*edit.place, login) is not None

    # The keys cost a tenth of a second: they are made for a new one alone.
    if await directory.change(site, _SERVER, is_there):
        return
    keys = (await passwords.make(site, settings.admin_password)).keys

    async def make(edit: DirectoryEdit) -> bool:
        if await is_there(edit):
            return False
        await create_person(edit, NewUser(login=login, keys=keys, is_admin=True, must_change=False))
        return True

    if await directory.change(site, _SERVER, make):
        _log.info("messenger admin made", site=site.name)
