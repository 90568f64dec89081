"""`OutboxStore` and `ReceiptStore` in the journal's database."""

from collections.abc import Sequence

from app.config.settings import Site
from app.protocols.messenger.chat_names import ChatNames
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.settings import is_beside
from app.protocols.messenger.talk.facts import AckedSeq, AckPage, OutboxRow, SentRow
from app.protocols.messenger.talk.journal_acks import AckQuestion, ack_page, forget_seqs
from app.protocols.messenger.talk.journal_outbox import finish, next_rows
from app.protocols.messenger.talk.journal_receipts import note_delivered


class JournalTalk:
    """The outbox and the receipts of all sites. Holds no state; lives as long as the node."""

    def __init__(self, sql: ChatSql, names: ChatNames) -> None:
        self._sql = sql
        self._names = names

    async def rows(self, site: Site, most: int) -> list[OutboxRow]:
        """The first rows; see `OutboxStore`."""
        async with self._sql.reading(site) as (sql, site_id):
            rows = await next_rows(sql, site_id, most)
        return await self._names.as_sent(site, rows)

    async def finish(self, site: Site, until: int, sent: Sequence[SentRow]) -> None:
        """Deletes rows; see `OutboxStore`."""
        async with self._sql.writing(site) as (sql, site_id):
            await finish(sql, site_id, until, sent)

    async def note_delivered(self, site: Site, acked: Sequence[AckedSeq], now: int) -> set[AckedSeq]:
        """Notes acks; see `ReceiptStore`."""
        async with self._sql.writing(site) as (sql, site_id):
            return await note_delivered(sql, site_id, acked, now)

    async def ack_page(self, site: Site, behind: int, most: int, now: int) -> AckPage:
        """Acks of the journal; see `ReceiptStore`."""
        async with self._sql.reading(site) as (sql, site_id):
            return await ack_page(sql, AckQuestion(site_id, behind, most, now), are_texts=is_beside(site))

    async def forget_seqs(self, site: Site, seqs: Sequence[int]) -> None:
        """Forgets messages; see `ReceiptStore`."""
        async with self._sql.writing(site) as (sql, site_id):
            await forget_seqs(sql, site_id, seqs)
