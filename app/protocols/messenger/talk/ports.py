"""The needs of the relay and of receipts: the outbox in SQL, the lease in Redis, the core. The adapters are the modules
`journal_*` and `redis_*` of this folder."""

from collections.abc import Callable, Sequence
from typing import Protocol

from app.config.settings import Site
from app.core.message import Message
from app.core.ports import RoomsChange, Stored
from app.protocols.messenger.talk.facts import AckedSeq, AckPage, OutboxRow, SentRow


class OutboxStore(Protocol):
    """The outbox of sites. Raises ChatUnavailable; then nothing has changed, or all of it."""

    async def rows(self, site: Site, most: int) -> list[OutboxRow]:
        """The first rows, in the order in which they were accepted."""

    async def finish(self, site: Site, until: int, sent: Sequence[SentRow]) -> None:
        """Deletes the rows up to a number, and keeps the seqs of messages for their receipts. Idempotent."""


class ReceiptStore(Protocol):
    """The receipts of sites. Raises ChatUnavailable; then nothing has changed, or all of it."""

    async def note_delivered(self, site: Site, acked: Sequence[AckedSeq], now: int) -> set[AckedSeq]:
        """Notes acks, and puts what is new into the outbox. Answers those acks whose seq is not known, or not yet.
        Idempotent."""

    async def ack_page(self, site: Site, behind: int, most: int, now: int) -> AckPage:
        """Some sent messages behind a seq, with the acks that the journal has of them."""

    async def forget_seqs(self, site: Site, seqs: Sequence[int]) -> None:
        """Forgets messages that no device will acknowledge any more. Idempotent."""


class RelayLease(Protocol):
    """The right to hand a site's outbox to the core. Raises StoreUnavailable."""

    async def beat(self, site: Site, lease_ms: int) -> bool:
        """Takes or keeps it; False: another node has it. With 0 ms it is given back."""

    async def wake(self, site: Site) -> None:
        """Wakes the relay that has it. Best effort."""

    async def settle(self, site: Site, keys: Sequence[str]) -> None:
        """The rows with these idempotency keys are gone."""


class RelayCore(Protocol):
    """The core."""

    async def publish(self, message: Message) -> Stored:
        """See `Delivery.publish`."""

    async def change_rooms(self, site: Site, change: RoomsChange) -> int:
        """See `FollowUp.change_rooms`."""


#: Wakes the relay of a site after a commit.
WakeRelay = Callable[[Site], None]
#: `FlakeIds.next_id`.
NextId = Callable[[], int]
