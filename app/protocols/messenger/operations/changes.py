"""The operations on registrations, and the history of the directory."""

from typing import Any

from sqlalchemy import Row

from app.clock import rfc3339_or_none
from app.errors import RequestRefused
from app.protocols.messenger.directory.journal_registrations import accept, refuse
from app.protocols.messenger.operations.answering import acting, doer_of_call, page_of, place_of, seeing
from app.protocols.messenger.operations.inputs import ChangesWanted, RegistrationPath, RegistrationsWanted
from app.protocols.messenger.operations.journal_listed_changes import (
    change_values,
    list_changes,
    list_registrations,
    names_in,
    taken_logins,
)
from app.protocols.messenger.operations.journal_pages import PagePlace
from app.protocols.messenger.operations.parts import DirectoryParts
from app.protocols.messenger.settings import Messenger, is_beside
from app.protocols.operations import Call, Operation

_Names = dict[tuple[str, int], str]


class _HistoryDesk:
    """The operations. Lives as long as the node."""

    def __init__(self, parts: DirectoryParts) -> None:
        self._parts = parts

    async def list(self, call: Call) -> dict[str, Any]:
        given: ChangesWanted = call.given
        if given.user is not None and given.room is not None:
            raise RequestRefused("room: expected a user or a room, not both.")
        of = ("user", given.user) if given.user is not None else ("room", given.room)
        place = PagePlace(place_of(given.cursor), given.limit, given.order == "newest")
        async with self._parts.sql.reading(call.known_site) as (sql, site_id):
            sought = None if of[1] is None else (of[0], of[1])
            rows, last = await list_changes(sql, site_id, sought, place)
            names = await names_in(sql, site_id, rows)
        return page_of([_shown(row, names) for row in rows], last)

    async def registrations(self, call: Call) -> dict[str, Any]:
        given: RegistrationsWanted = call.given
        place = PagePlace(place_of(given.cursor), given.limit, given.order == "newest")
        async with self._parts.sql.reading(call.known_site) as (sql, site_id):
            rows, last = await list_registrations(sql, site_id, given.state, place)
            taken = await taken_logins(sql, site_id, [row.login_key for row in rows])
        site = call.known_site
        is_open = site.require_section(Messenger).registration == "open" and not is_beside(site)
        items = [_registration(row) | {"login_taken": row.login_key in taken} for row in rows]
        return page_of(items, last) | {"is_open": is_open}

    async def accept(self, call: Call) -> dict[str, Any]:
        change = self._parts.directory.change
        made = await change(call.known_site, doer_of_call(call), lambda edit: accept(edit, call.given.id))
        return {"ok": True, "user": made.id}

    async def refuse(self, call: Call) -> dict[str, Any]:
        change = self._parts.directory.change
        await change(call.known_site, doer_of_call(call), lambda edit: refuse(edit, call.given.id))
        return {"ok": True}


def change_operations(parts: DirectoryParts) -> list[Operation]:
    """The operations on registrations, and the history."""
    do, path = _HistoryDesk(parts), "/registrations/{id}"
    history, waiting = "List the changes of a directory", "List the registrations at a messenger"
    return [
        seeing("changes.list", history, "/changes", do.list, ChangesWanted),
        seeing("registrations.list", waiting, "/registrations", do.registrations, RegistrationsWanted),
        acting(
            "registrations.accept", "Accept a registration", ("POST", f"{path}/accept"), do.accept, RegistrationPath
        ),
        acting(
            "registrations.refuse", "Refuse a registration", ("POST", f"{path}/refuse"), do.refuse, RegistrationPath
        ),
    ]


def _shown(row: Row[Any], names: _Names) -> dict[str, Any]:
    kind = "user" if row.what in ("user", "contact") else row.what
    doer, _, id = row.by.partition(":")
    return {
        "id": row.id,
        "at": rfc3339_or_none(row.at),
        "what": row.what,
        "of": row.of_id,
        "of_name": names.get((kind, row.of_id)),
        "owner": row.owner_id,
        "owner_name": None if row.owner_id is None else names.get(("user", row.owner_id)),
        "by": row.by,
        "by_name": names.get(("user", int(id))) if doer == "user" and id.isdigit() else None,
        "before": change_values(row.before),
        "after": change_values(row.after),
    }


def _registration(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "login": row.login,
        "name": row.name,
        "address": row.address,
        "at": rfc3339_or_none(row.at),
        "state": row.state,
        "by": row.by,
        "decided_at": rfc3339_or_none(row.decided_at),
    }
