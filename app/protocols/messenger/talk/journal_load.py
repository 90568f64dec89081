"""The messages of a load test in SQL: how many there are, how many receipts, and their times."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.load_rooms import LoadPlace, LoadProgress, LoadTimes
from app.protocols.messenger.journal_tables import chat_clock, chat_messages, chat_receipts

#: The kind of a message of a run. Its `data` name the run.
LOAD_KIND = "load"
_MESSAGE, _RECEIPT = chat_messages.c, chat_receipts.c


class _LoadData(Struct):
    """`data` of a message of a run."""

    run: str
    #: How long the answer to the client's message before has taken.
    ms: float | None = None


async def clock_now(sql: AsyncConnection, site_id: int) -> int:
    """The last number of the site's clock."""
    statement = select(chat_clock.c.last).where(chat_clock.c.site_id == site_id)
    return int((await sql.execute(statement)).scalar_one_or_none() or 0)


async def load_progress(sql: AsyncConnection, site_id: int, place: LoadPlace) -> LoadProgress:
    """Counts the messages of a run, their devices and their receipts."""
    counts = select(func.count(), func.count(_MESSAGE.device_id.distinct())).select_from(chat_messages)
    messages, devices = (await sql.execute(counts.where(*_of_run(site_id, place)))).one()
    receipts = select(func.count()).select_from(chat_messages.join(chat_receipts, _of_message()))
    stored = (await sql.execute(receipts.where(*_of_run(site_id, place)))).scalar_one()
    return LoadProgress(messages, devices, stored)


async def load_times(sql: AsyncConnection, site_id: int, place: LoadPlace, most: int) -> LoadTimes:
    """The times of a run."""
    took = (_RECEIPT.delivered_at - _MESSAGE.at).label("took")
    source = chat_messages.join(chat_receipts, _of_message())
    counted = select(took, func.count()).select_from(source).where(*_of_run(site_id, place)).group_by(took)
    delivery = [(max(0, row[0]), row[1]) for row in await sql.execute(counted)]
    told = select(_MESSAGE.data).where(*_of_run(site_id, place)).limit(most)
    return LoadTimes(delivery, _stored(list((await sql.execute(told)).scalars())))


def _of_run(site_id: int, place: LoadPlace) -> Sequence[ColumnElement[bool]]:
    return (
        _MESSAGE.site_id == site_id,
        _MESSAGE.conversation == f"r{place.room}",
        _MESSAGE.id > place.behind,
        _MESSAGE.kind == LOAD_KIND,
        _MESSAGE.data.contains(f'"run":"{place.run}"', autoescape=True),
    )


def _of_message() -> ColumnElement[bool]:
    of_both = (_RECEIPT.site_id == _MESSAGE.site_id, _RECEIPT.message_id == _MESSAGE.id)
    return and_(*of_both, _RECEIPT.delivered_at.is_not(None))


def _stored(told: Sequence[Any]) -> list[float]:
    """The times that clients tell; a client may tell anything."""
    found = []
    for text in told:
        try:
            took = msgspec.json.decode(text, type=_LoadData).ms
        except msgspec.MsgspecError:
            continue
        if took is not None and took >= 0:
            found.append(took)
    return found
