"""The acks of sent messages as the journal has them: the net below the acks that the nodes note at once. A node that is
killed between an ack and its receipt loses no receipt."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import and_, delete, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.journal.tables import deliveries, devices, messages
from app.protocols.messenger.bounds import USER_PREFIX
from app.protocols.messenger.journal_tables import chat_sent, chat_users
from app.protocols.messenger.talk.facts import AckedSeq, AckPage

#: The journal has the rows of a message by then.
_KNOWN_MS = 3_600_000


class AckQuestion(Struct, frozen=True):
    """The question for at most so many sent messages of a site behind a seq."""

    site_id: int
    behind: int
    most: int
    now: int


async def ack_page(sql: AsyncConnection, question: AckQuestion, *, are_texts: bool = False) -> AckPage:
    """Some sent messages, with the acks that the journal has of them. With `are_texts` the names of users are those of
    the site's backend."""
    site_id, behind, most, now = msgspec.structs.astuple(question)
    of_site = (chat_sent.c.site_id == site_id, chat_sent.c.seq > behind)
    page = select(chat_sent.c.seq).where(*of_site).order_by(chat_sent.c.seq).limit(most)
    seqs = list((await sql.execute(page)).scalars())
    if not seqs:
        return AckPage([], [], [])
    # Before the acks: one that comes in between is among them, or its message has not ended.
    of_seq = and_(messages.c.site_id == chat_sent.c.site_id, messages.c.seq == chat_sent.c.seq)
    is_open = exists(select(1).where(of_seq, or_(messages.c.n_waiting > 0, messages.c.n_written > 0)))
    ended = select(chat_sent.c.seq).where(
        chat_sent.c.site_id == site_id, chat_sent.c.seq.in_(seqs), chat_sent.c.at < now - _KNOWN_MS, ~is_open
    )
    over = list((await sql.execute(ended)).scalars())
    of_device = deliveries.join(devices, devices.c.id == deliveries.c.device_id)
    acked = (deliveries.c.site_id == site_id, deliveries.c.seq.in_(seqs), deliveries.c.acked_at.is_not(None))
    user: Any = func.substr(devices.c.user, len(USER_PREFIX) + 1)
    if are_texts:
        of_user = and_(chat_users.c.site_id == site_id, chat_users.c.external == user)
        of_device, user = of_device.join(chat_users, of_user), chat_users.c.id
    statement = select(deliveries.c.seq, user.label("user"), devices.c.device).select_from(of_device).where(*acked)
    rows = [row for row in await sql.execute(statement) if are_texts or row.user.isdecimal()]
    acks = [AckedSeq(row.seq, int(row.user), row.device) for row in rows]
    return AckPage(seqs, acks, over)


async def forget_seqs(sql: AsyncConnection, site_id: int, seqs: Sequence[int]) -> None:
    """Forgets the seqs of messages that have ended."""
    await sql.execute(delete(chat_sent).where(chat_sent.c.site_id == site_id, chat_sent.c.seq.in_(seqs)))
