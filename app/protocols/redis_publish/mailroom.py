"""The connected users of one site on this node: connects their mailboxes with their recipients."""

import asyncio
import itertools
from collections.abc import Iterator

import structlog

from app.core.errands import Errands
from app.errors import StoreAway, StoreError
from app.protocols.redis_publish.figures import RedisPublishCounts
from app.protocols.redis_publish.mailbox_ports import Mailboxes, Part, Told
from app.protocols.redis_publish.recipient import Recipient, RecipientPhase

_log = structlog.get_logger(__name__)

TOO_MANY = "another connection took the place of this one: conn_limit"


class Mailroom:
    """Lives as long as the node; `drain` waits for commands under way. Implements `MailListener`."""

    def __init__(self, node: str, mailboxes: Mailboxes, counts: RedisPublishCounts) -> None:
        self._node = node
        self._mailboxes = mailboxes
        self._counts = counts
        self._users: dict[str, dict[int, Recipient]] = {}
        self.errands = Errands()

    async def open(self, recipient: Recipient, user: str) -> None:
        """Registers a client of this user and begins to write the waiting messages. Raises StoreUnavailable; then
        nothing is left behind, and the client has to reconnect."""
        recipient.user = user
        recipient.fetch()
        self._users.setdefault(user, {})[recipient.number] = recipient
        try:
            part = await self._mailboxes.join(user, recipient.number)
        except StoreAway:
            # Nothing was sent: Redis knows of nothing that has to be taken back.
            self._forget(recipient)
            raise
        except (StoreError, asyncio.CancelledError):
            self.close(recipient)
            raise
        recipient.receive_part(part, self._node)
        self._go_on(recipient)

    def close(self, recipient: Recipient) -> None:
        """The client is gone: messages without a receipt wait in the mailbox. Idempotent, returns at once."""
        if self._forget(recipient):
            self.errands.start(self._leave(recipient))

    def _forget(self, recipient: Recipient) -> bool:
        """Whether this node had the recipient."""
        if recipient.phase is RecipientPhase.CLOSED:
            return False
        recipient.close()
        others = self._users.get(recipient.user)
        if others is None or others.pop(recipient.number, None) is None:
            return False
        if not others:
            del self._users[recipient.user]
        return True

    def receive_ack(self, recipient: Recipient, ack_id: int) -> None:
        """The client has acknowledged a message."""
        recipient.receive_ack(ack_id)
        self._go_on(recipient)

    def message_told(self, told: Told) -> None:
        """From the feed; see `MailListener`."""
        for recipient in list(self._users.get(told.user, {}).values()):
            try:
                self._tell(recipient, told)
            except Exception:
                # The user's other clients get the message; this one connects again and takes it from the mailbox.
                _log.exception("receiver failed", user=told.user, number=recipient.number)
                recipient.connection.session.close("internal error")

    def _tell(self, recipient: Recipient, told: Told) -> None:
        if not recipient.receive_told(told, self._node):
            recipient.is_stale = True
            self._counts.gaps += 1
        self._go_on(recipient)

    def message_done(self, user: str, digest: str) -> None:
        """From the feed; see `MailListener`."""
        for recipient in list(self._users.get(user, {}).values()):
            recipient.receive_done(digest)
            self._go_on(recipient)

    def connection_dropped(self, user: str, connection: int) -> None:
        """From the feed; see `MailListener`."""
        recipient = self._users.get(user, {}).get(connection)
        if recipient is not None:
            self._counts.identifications["conn_limit"] += 1
            recipient.connection.send_event("error", [TOO_MANY])
            recipient.connection.disconnect()

    def subscription_interrupted(self) -> None:
        """From the feed; see `MailListener`."""
        self._counts.gaps += 1
        self.errands.wake()
        for recipient in list(self._recipients()):
            recipient.is_stale = True
            self._go_on(recipient)

    async def drain(self) -> None:
        """Waits until all commands under way have reached Redis. Called at the end, with a time-out."""
        await self.errands.drain()

    def _recipients(self) -> Iterator[Recipient]:
        return itertools.chain.from_iterable(recipients.values() for recipients in list(self._users.values()))

    def _go_on(self, recipient: Recipient) -> None:
        """Where due, asks the client for a receipt, passes receipts to the mailbox and asks it for the next part."""
        if not recipient.with_acks and not recipient.is_asked and (pending := recipient.pending):
            recipient.is_asked = True
            confirm_receipt = recipient.connection.session.confirm_receipt
            # A client answers a ping when packets arrive, but hands the packets to the page later, and it may leave in
            # between. It can answer a second ping, sent after the first answer, only when the page has all of them.
            confirm_receipt(lambda: confirm_receipt(lambda: self._receive_receipt(recipient, pending)))
        if not recipient.is_settling and (recipient.confirmed or recipient.wants_part):
            recipient.is_settling = True
            self.errands.start(self._settle(recipient))

    def _receive_receipt(self, recipient: Recipient, entries: list[bytes]) -> None:
        recipient.receive_receipt(entries)
        self._go_on(recipient)

    async def _settle(self, recipient: Recipient) -> None:
        try:
            while recipient.phase is not RecipientPhase.CLOSED and (recipient.confirmed or recipient.wants_part):
                await self._settle_once(recipient, recipient.take_confirmed())
        except StoreError:
            recipient.connection.session.close("message store failed")
            raise
        finally:
            recipient.is_settling = False

    async def _settle_once(self, recipient: Recipient, confirmed: list[bytes]) -> None:
        if not recipient.wants_part:
            await self.errands.until_stored(lambda: self._mailboxes.confirm(recipient.user, confirmed))
            return
        is_stale, recipient.is_stale = recipient.is_stale, False
        recipient.fetch()
        ask = self._join_again if is_stale else self._take
        recipient.receive_part(await self.errands.until_stored(lambda: ask(recipient, confirmed)), self._node)
        self._go_on(recipient)

    async def _take(self, recipient: Recipient, confirmed: list[bytes]) -> Part:
        part = await self._mailboxes.take(recipient.user, recipient.number, confirmed)
        # (None: other nodes took this node for dead, and its connections were taken out.)
        return part or await self._mailboxes.join(recipient.user, recipient.number)

    async def _join_again(self, recipient: Recipient, confirmed: list[bytes]) -> Part:
        if confirmed:
            await self._mailboxes.confirm(recipient.user, confirmed)
        return await self._mailboxes.join(recipient.user, recipient.number)

    async def _leave(self, recipient: Recipient) -> None:
        user, confirmed = recipient.user, recipient.take_confirmed()
        if confirmed:
            await self.errands.until_stored(lambda: self._mailboxes.confirm(user, confirmed))
        await self.errands.until_stored(lambda: self._mailboxes.leave(user, recipient.number, user not in self._users))
