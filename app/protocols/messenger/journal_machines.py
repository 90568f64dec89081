"""The devices of users and the programs that they run, as a login finds them; what changes is written down."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now_ms
from app.journal.inserting import inserter
from app.protocols.messenger.bounds import MAX_APPS, MAX_DEVICES_OF_USER
from app.protocols.messenger.caller import ChatCaller, ClientApp
from app.protocols.messenger.journal_changes import Changed, note_change
from app.protocols.messenger.journal_tables import chat_apps, chat_devices, chat_sessions

_TOLD = ("os", "os_version", "model", "memory", "cores", "app_id")
#: A device that is forgotten has this behind its change.
GONE = msgspec.json.encode({"device": None}).decode()


def app_question(app_id: int | None) -> Any:
    """The question for a program: name, reference, version."""
    return select(chat_apps.c.name, chat_apps.c.reference, chat_apps.c.version).where(chat_apps.c.id == app_id)


async def app_row(sql: AsyncConnection, site_id: int, app: ClientApp | None) -> int | None:
    """The row of a program, made for a new one; None: it told none, or there are too many."""
    if app is None:
        return None
    values = {"name": app.name, "reference": app.reference, "version": app.version}
    of_app = [chat_apps.c.site_id == site_id, *(chat_apps.c[name] == value for name, value in values.items())]
    found = (await sql.execute(select(chat_apps.c.id).where(*of_app))).scalar_one_or_none()
    if found is not None:
        return int(found)
    count = select(func.count()).select_from(chat_apps).where(chat_apps.c.site_id == site_id)
    if (await sql.execute(count)).scalar_one() >= MAX_APPS:
        return None
    made = insert(chat_apps).values(**values, site_id=site_id, created_at=now_ms()).returning(chat_apps.c.id)
    app_id = int((await sql.execute(made)).scalar_one())
    await note_change(sql, site_id, Changed("app", app_id, values), "server")
    return app_id


async def note_device(sql: AsyncConnection, site_id: int, caller: ChatCaller, user_id: int, app_id: int | None) -> int:
    """The row of a device, with what it tells of itself; of too many the one that was seen longest ago goes."""
    now, machine = now_ms(), caller.machine
    key = {"site_id": site_id, "user_id": user_id, "device": caller.device}
    told = {name: getattr(machine, name) for name in _TOLD[:-1]} | {"app_id": app_id}
    before = await _told_before(sql, key)
    statement = inserter(sql)(chat_devices).values(**key, **told, seen_at=now, created_at=now)
    later = {**told, "seen_at": now}
    statement = statement.on_conflict_do_update(index_elements=list(key), set_=later).returning(chat_devices.c.id)
    device_id = int((await sql.execute(statement)).scalar_one())
    if before != told:
        after = told if before is not None else {"device": caller.device, **told}
        await note_change(sql, site_id, Changed("device", device_id, after, before, user_id), f"user:{user_id}")
    await _forget_oldest(sql, site_id, user_id)
    return device_id


async def _told_before(sql: AsyncConnection, key: Mapping[str, Any]) -> dict[str, Any] | None:
    columns = [chat_devices.c[name] for name in _TOLD]
    of_device = [chat_devices.c[name] == value for name, value in key.items()]
    row = (await sql.execute(select(*columns).where(*of_device))).one_or_none()
    return None if row is None else row._asdict()


async def _forget_oldest(sql: AsyncConnection, site_id: int, user_id: int) -> None:
    of_user = (chat_devices.c.site_id == site_id, chat_devices.c.user_id == user_id)
    count = (await sql.execute(select(func.count()).select_from(chat_devices).where(*of_user))).scalar_one()
    if count <= MAX_DEVICES_OF_USER:
        return
    oldest = select(chat_devices.c.id, chat_devices.c.device).where(*of_user)
    oldest = oldest.order_by(chat_devices.c.seen_at, chat_devices.c.id).limit(count - MAX_DEVICES_OF_USER)
    for row in list(await sql.execute(oldest)):
        await sql.execute(delete(chat_sessions).where(chat_sessions.c.device_id == row.id))
        await sql.execute(delete(chat_devices).where(chat_devices.c.id == row.id))
        changed = Changed("device", row.id, {"device": None}, {"device": row.device}, user_id)
        await note_change(sql, site_id, changed, "server")
