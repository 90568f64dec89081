"""The event `load_join`: a device takes part in a load test that is under way in one of its user's rooms."""

from typing import Protocol

from app.clock import now_ms
from app.config.settings import Site
from app.protocols.messenger.addresses import run_room
from app.protocols.messenger.answers import ChatEvent, ChatRefusal, ChatUnavailable
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.handlers import Handler
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.talk.journal_load_runs import RunName, open_room
from app.protocols.messenger.talk.journal_visible import room_facts
from app.protocols.messenger.talk.rules import check_member


class LoadJoinData(ChatEvent):
    """`load_join`"""

    run: RunName


class DeviceRooms(Protocol):
    """The core."""

    async def set_device_rooms(self, site: Site, user_room: str, device_id: str, rooms: list[str]) -> bool:
        """See `FollowUp.set_device_rooms`."""


class LoadEvents:
    """The devices that take part, of all sites. Holds no state; lives as long as the node."""

    def __init__(self, sql: ChatSql, core: DeviceRooms) -> None:
        self._sql = sql
        self._core = core

    def handlers(self) -> dict[str, Handler]:
        """The events by name."""
        return {"load_join": Handler(LoadJoinData, self.join)}

    async def join(self, caller: ChatCaller, data: LoadJoinData) -> None:
        """The device gets the messages of a run from now on, until its next connect. Raises ChatRefusal."""
        async with self._sql.reading(caller.site) as (sql, site_id):
            room = await open_room(sql, site_id, data.run, now_ms())
            if room is None:
                raise ChatRefusal("bad_request", "run: expected that of a load test that is under way.")
            check_member(await room_facts(sql, site_id, room, caller.me.id))
        rooms = [run_room(data.run), run_room(data.run, caller.me.id)]
        if not await self._core.set_device_rooms(caller.site, caller.me.room, caller.device, rooms):
            raise ChatUnavailable()
