"""The runs of load tests in SQL: which messages of the kind `load` a site takes, and in which run."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import Row, Table, delete, exists, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.load_rooms import LoadLimits, LoadPlace
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.journal_message_tables import chat_load_messages, chat_load_receipts, chat_load_runs
from app.protocols.messenger.talk.settings import MAX_RUN_CHARACTERS

#: The kind of a message of a run. Its `data` name the run.
LOAD_KIND = "load"
#: The rows of one step of a removal.
ROWS_A_STEP = 1_000
#: A run whose node has died is removed with a later one, this time after its end.
_LEFT_MS = 600_000
_RUN, _MESSAGE, _RECEIPT = chat_load_runs.c, chat_load_messages.c, chat_load_receipts.c

RunName = Annotated[str, Meta(min_length=1, max_length=MAX_RUN_CHARACTERS)]


class LoadData(Struct):
    """`data` of a message of a run."""

    run: RunName
    #: How long the answer to the client's message before has taken.
    ms: float | None = None


def run_of(data: str | None) -> str | None:
    """The run that the `data` of a message name; None: they name none."""
    try:
        return msgspec.json.decode(data or "null", type=LoadData).run
    except msgspec.MsgspecError:
        return None


async def begin_run(sql: AsyncConnection, site_id: int, place: LoadPlace, limits: LoadLimits, now: int) -> None:
    """A room takes messages of a run from now on."""
    values = {"site_id": site_id, "run": place.run, "room_id": place.room, "messages_left": limits.messages}
    until = now + limits.wait_ms
    await sql.execute(insert(chat_load_runs).values(**values, ms=limits.ms, until=until))


async def end_run(sql: AsyncConnection, site_id: int, run: str, now: int) -> None:
    """A run takes no more messages. Idempotent."""
    of_run = (_RUN.site_id == site_id, _RUN.run == run, _RUN.until > now)
    await sql.execute(update(chat_load_runs).where(*of_run).values(until=now))


async def open_room(sql: AsyncConnection, site_id: int, run: str, now: int) -> int | None:
    """The room of a run that is under way; None: there is none."""
    found = await _open_runs(sql, site_id, [run], now)
    return found[run].room_id if run in found else None


async def forget_some(sql: AsyncConnection, site_id: int, run: str, now: int) -> bool:
    """Deletes some rows of a run that has ended, and of runs that were left behind. True: there are none any more."""
    of_runs = select(_RUN.run).where(
        _RUN.site_id == site_id, _RUN.until <= now, (_RUN.run == run) | (_RUN.until < now - _LEFT_MS)
    )
    of_message = (_RECEIPT.site_id == _MESSAGE.site_id, _RECEIPT.message_id == _MESSAGE.id)
    messages = (_MESSAGE.site_id == site_id, _MESSAGE.run.in_(of_runs))
    if await _delete_some(sql, chat_load_receipts, _RECEIPT.site_id == site_id, exists().where(*of_message, *messages)):
        return False
    if await _delete_some(sql, chat_load_messages, *messages):
        return False
    await sql.execute(delete(chat_load_runs).where(_RUN.site_id == site_id, _RUN.run.in_(of_runs)))
    return True


class LoadGate:
    """The runs that messages of one transaction name. Lives as long as the transaction."""

    def __init__(self, runs: Mapping[str, Row[Any]]) -> None:
        self._runs = runs
        self._taken: Counter[str] = Counter()

    @classmethod
    async def open(cls, sql: AsyncConnection, site_id: int, datas: Iterable[str | None], now: int) -> "LoadGate":
        """The runs that are under way among those that the `data` of messages name."""
        names = {name for data in datas if (name := run_of(data)) is not None}
        return cls(await _open_runs(sql, site_id, names, now))

    def admit(self, data: str | None, room: int | None) -> str:
        """The run of a message to a room, which counts from now on. Raises ChatRefusal."""
        name = run_of(data)
        run = self._runs.get(name) if name is not None else None
        if name is None or run is None or run.room_id != room:
            raise ChatRefusal("bad_request", "kind: expected another word than load, or the run of a load test here.")
        if self._taken[name] >= run.messages_left:
            raise ChatRefusal("bad_request", "The load test takes no more messages.")
        self._taken[name] += 1
        return name

    async def close(self, sql: AsyncConnection, site_id: int, now: int) -> None:
        """Notes how many messages the runs still take; the time of a run begins with its first one."""
        for name, count in self._taken.items():
            run = self._runs[name]
            begun = {} if run.ms is None else {"ms": None, "until": min(run.until, now + run.ms)}
            of_run = (_RUN.site_id == site_id, _RUN.run == name)
            left = {"messages_left": _RUN.messages_left - count}
            await sql.execute(update(chat_load_runs).where(*of_run).values(**left, **begun))


async def _open_runs(sql: AsyncConnection, site_id: int, names: Iterable[str], now: int) -> dict[str, Row[Any]]:
    of_names = (_RUN.site_id == site_id, _RUN.run.in_(set(names)), _RUN.until > now)
    return {row.run: row for row in await sql.execute(select(chat_load_runs).where(*of_names))}


async def _delete_some(sql: AsyncConnection, table: Table, *conditions: Any) -> int:
    key = list(table.primary_key.columns)
    chosen = select(*key).where(*conditions).limit(ROWS_A_STEP)
    return int((await sql.execute(delete(table).where(tuple_(*key).in_(chosen)))).rowcount)
