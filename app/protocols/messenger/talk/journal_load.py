"""The messages of a load test in SQL: how many there are, how many receipts, and their times."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.load_rooms import LoadPlace, LoadProgress, LoadTimes
from app.protocols.messenger.journal_message_tables import chat_load_messages, chat_load_receipts
from app.protocols.messenger.talk.journal_load_runs import LoadData

_MESSAGE, _RECEIPT = chat_load_messages.c, chat_load_receipts.c


async def load_progress(sql: AsyncConnection, site_id: int, place: LoadPlace) -> LoadProgress:
    """Counts the messages of a run, their devices and their receipts."""
    counts = select(func.count(), func.count(_MESSAGE.device_id.distinct())).select_from(chat_load_messages)
    messages, devices = (await sql.execute(counts.where(*_of_run(site_id, place)))).one()
    receipts = select(func.count()).select_from(chat_load_messages.join(chat_load_receipts, _of_message()))
    stored = (await sql.execute(receipts.where(*_of_run(site_id, place)))).scalar_one()
    return LoadProgress(messages, devices, stored)


async def load_times(sql: AsyncConnection, site_id: int, place: LoadPlace, most: int) -> LoadTimes:
    """The times of a run."""
    took = (_RECEIPT.delivered_at - _MESSAGE.at).label("took")
    source = chat_load_messages.join(chat_load_receipts, _of_message())
    counted = select(took, func.count()).select_from(source).where(*_of_run(site_id, place)).group_by(took)
    delivery = [(max(0, row[0]), row[1]) for row in await sql.execute(counted)]
    told = select(_MESSAGE.data).where(*_of_run(site_id, place)).limit(most)
    return LoadTimes(delivery, _stored(list((await sql.execute(told)).scalars())))


def _of_run(site_id: int, place: LoadPlace) -> Sequence[ColumnElement[bool]]:
    return _MESSAGE.site_id == site_id, _MESSAGE.run == place.run


def _of_message() -> ColumnElement[bool]:
    of_both = (_RECEIPT.site_id == _MESSAGE.site_id, _RECEIPT.message_id == _MESSAGE.id)
    return and_(*of_both, _RECEIPT.delivered_at.is_not(None))


def _stored(told: Sequence[Any]) -> list[float]:
    """The times that clients tell; a client may tell anything."""
    found = []
    for text in told:
        try:
            took = msgspec.json.decode(text, type=LoadData).ms
        except msgspec.MsgspecError:
            continue
        if took is not None and took >= 0:
            found.append(took)
    return found
