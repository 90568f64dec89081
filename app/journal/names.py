"""The devices behind handles: a cache in memory, the table `devices`, and for an unknown handle its hash in Redis."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.journal.inserting import inserter
from app.journal.tables import devices, sites
from app.redis.client import Commands

#: Handles in memory; past it all are forgotten, and read again as they are needed.
KEEP_AT_MOST = 2_000_000
#: The parameters of one statement are bounded in both databases.
_PART = 500

#: A handle with its user room and its device id.
NamedHandle = tuple[bytes, str, str]


class Names:
    """The ids of sites and devices, as far as they are known. Lives as long as the writer.

    Ids from a transaction are forgotten when the transaction fails.
    """

    def __init__(self) -> None:
        self._sites: dict[str, int] = {}
        self._devices: dict[str, dict[bytes, int]] = {}
        self._count = 0

    def forget(self) -> None:
        """Forgets everything: a transaction failed, or another writer was at work."""
        self._sites.clear()
        self._devices.clear()
        self._count = 0

    def of_site(self, site: str) -> dict[bytes, int]:
        """The ids of the site's devices by handle, as far as they are known."""
        return self._devices.setdefault(site, {})

    def site_id(self, site: str) -> int | None:
        """The id of a site that is known."""
        return self._sites.get(site)

    async def load_sites(self, sql: AsyncConnection, names: Iterable[str]) -> None:
        """Reads the ids of sites; new ones stay unknown."""
        for name in {*names} - self._sites.keys():
            found = (await sql.execute(select(sites.c.id).where(sites.c.name == name))).scalar_one_or_none()
            if found is not None:
                self._sites[name] = found

    async def add_sites(self, sql: AsyncConnection, names: Iterable[str]) -> None:
        """Learns the ids of sites; new ones get a row."""
        for name in {*names} - self._sites.keys():
            await sql.execute(inserter(sql)(sites).values(name=name).on_conflict_do_nothing())
            found = await sql.execute(select(sites.c.id).where(sites.c.name == name))
            self._sites[name] = found.scalar_one()

    async def load(self, sql: AsyncConnection, site: str, handles: Iterable[bytes]) -> list[bytes]:
        """Reads the devices of handles from SQL. Returns the handles that SQL does not know."""
        if self._count > KEEP_AT_MOST:
            self.forget()
        known = self.of_site(site)
        wanted = list({*handles} - known.keys())
        site_id = self.site_id(site)
        if not wanted or site_id is None:
            return wanted
        for part in _parts(wanted):
            rows = await sql.execute(
                select(devices.c.handle, devices.c.id).where(
                    devices.c.site_id == site_id, devices.c.handle.in_([int(handle) for handle in part])
                )
            )
            for handle, device_id in rows:
                self._note(known, str(handle).encode(), device_id)
        return [handle for handle in wanted if handle not in known]

    async def save(self, sql: AsyncConnection, site: str, named: Sequence[NamedHandle]) -> None:
        """Writes which device a handle belongs to from now on. A device that had another handle has the new one; a
        handle that belonged to another device (Redis had lost everything) is taken from it."""
        known = self.of_site(site)
        site_id = self.site_id(site)
        assert site_id is not None, "add_sites comes first"
        for part in _parts(named):
            handles = [int(handle) for handle, _, _ in part]
            await sql.execute(
                update(devices).where(devices.c.site_id == site_id, devices.c.handle.in_(handles)).values(handle=None)
            )
            # The last handle of a device counts; the earlier ones of the same batch are its own too.
            latest = {(user, device): int(handle) for handle, user, device in part}
            rows = [
                {"site_id": site_id, "user": user, "device": device, "handle": handle}
                for (user, device), handle in latest.items()
            ]
            statement = inserter(sql)(devices)
            statement = statement.on_conflict_do_update(
                index_elements=["site_id", "user", "device"], set_={"handle": statement.excluded.handle}
            ).returning(devices.c.user, devices.c.device, devices.c.id)
            answer = await sql.execute(statement, rows)
            ids = {(user, device): device_id for user, device, device_id in answer}
            for handle, user, device in part:
                self._note(known, handle, ids[user, device])

    def _note(self, known: dict[bytes, int], handle: bytes, device_id: int) -> None:
        self._count += handle not in known
        known[handle] = device_id


async def ask_redis(redis: Commands, prefix: str, handles: Sequence[bytes]) -> list[NamedHandle]:
    """The devices of handles of which no entry has told: as Redis knows them now, else as devices without a name."""
    named: list[NamedHandle] = []
    for part in _parts(handles):
        asked = [redis.command("HMGET", f"{prefix}device:{handle.decode()}", "user", "device") for handle in part]
        for handle, (user, device) in zip(part, await asyncio.gather(*asked), strict=True):
            if user is None or device is None:
                named.append((handle, "", f"handle {handle.decode()}"))
            else:
                named.append((handle, _text(user), _text(device)))
    return named


def _text(text: bytes) -> str:
    return text.decode("utf-8", "replace").replace("\0", "\ufffd")[:500]


def _parts(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[start : start + _PART] for start in range(0, len(items), _PART))
