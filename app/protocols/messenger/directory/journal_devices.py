"""The devices of users, as their users see them."""

from typing import Any

from sqlalchemy import select

from app.protocols.messenger.journal_tables import chat_apps, chat_devices


def devices_with_apps() -> Any:
    """The devices with the programs of their last connections."""
    app = chat_apps.c
    named = (app.name.label("app_name"), app.reference.label("app_reference"), app.version.label("app_version"))
    return select(chat_devices, *named).select_from(chat_devices.outerjoin(chat_apps, app.id == chat_devices.c.app_id))


def device_shown(row: Any) -> dict[str, Any]:
    """A device as its user sees it."""
    app = {"name": row.app_name, "reference": row.app_reference, "version": row.app_version}
    return {
        "id": row.device,
        "name": row.name,
        "os": row.os,
        "osVersion": row.os_version,
        "model": row.model,
        "app": None if row.app_name is None else app,
        "seen_at": row.seen_at,
    }
