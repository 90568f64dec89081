"""The life of one site's subscribers on this node: opening, actions, end. Each
subscriber's actions run one at a time."""

import asyncio
import contextlib

import structlog

from app.config.settings import Site
from app.core.audiences import Audiences
from app.core.draining import STEP_SECONDS, close_in_steps
from app.core.errands import Errands
from app.core.limits import Limits
from app.core.live import row_of
from app.errors import LimitReached, StoreError, StoreUnavailable
from app.observe.counted_lines import CountedLines
from app.observe.counts import SiteCounts
from app.observe.records import NodeRecords
from app.protocols.channels import messages
from app.protocols.channels.board import Board
from app.protocols.channels.channel_store import ChannelStore, Kept
from app.protocols.channels.headcount import Headcount
from app.protocols.channels.messages import ClientAction, Malformed
from app.protocols.channels.opening import Opening, OpeningRequest
from app.protocols.channels.positions import Positions
from app.protocols.channels.sockets import Ending
from app.protocols.channels.subscriber import Resumption, Subscriber, SubscriberPhase
from app.protocols.http_request import shown_origin

#: The time for clients to complete the closing handshake; a client that has gone silently is not awaited longer.
_FAREWELL_SECONDS = 2.0
#: The time over which plain subscribers are closed after a loss, so that they do not all reconnect at once.
_MISSED_SECONDS = 5.0
_ACTIONS_PER_TURN = 32
_OUR_REASONS = frozenset(ending.value[1] for ending in Ending)

_log = structlog.get_logger(__name__)


class Door:
    """The subscribers of one site on this node; the `Owner` of each. Lives as long as the node."""

    def __init__(
        self,
        site: Site,
        audiences: Audiences,
        store: ChannelStore,
        limits: Limits,
        counts: SiteCounts,
        records: NodeRecords,
    ) -> None:
        self.board = Board(site, audiences, store, counts)
        self._site = site
        self._opening = Opening(self.board, audiences, store, counts)
        self._errands = Errands(audiences.is_away)
        self._positions = Positions(self.board, store, self._errands)
        self.headcount = Headcount(self.board, store, self._errands)
        self._store = store
        self._limits = limits
        self._counts = counts
        self._records = records
        self._refusals = CountedLines(_log, "info", "subscriber refused")

    # Opening

    def open(self, subscriber: Subscriber, wish: OpeningRequest) -> None:
        """Opens a subscriber whose WebSocket is accepted: writes its first
        CLIENT_ACK now, or when Redis has answered."""
        self._counts.connections += 1
        if wish.is_plain:
            self._opening.open_plain(subscriber)
            self._opened(subscriber)
            subscriber.served()
        else:
            self._errands.start(self._open(subscriber, wish))

    def refuse_origin(self, origin: str) -> None:
        """Notes that a page of another origin was refused."""
        self._counts.connects["origin"] += 1
        self._refusals.tell(site=self._site.name, reason="origin", shown={"origin": shown_origin(origin)})

    def turn_away(self, subscriber: Subscriber, reached: LimitReached) -> None:
        """Refuses a subscriber on its accepted WebSocket, because otherwise a browser would not learn the reason."""
        self._counts.connections += 1
        self._counts.connects["limited"] += 1
        self._refusals.tell(site=self._site.name, reason=str(reached))
        subscriber.write(_too_many(reached))
        subscriber.close(Ending.LIMIT)

    async def _open(self, subscriber: Subscriber, wish: OpeningRequest) -> None:
        try:
            await self._opening.open(subscriber, wish)
        except StoreError as error:
            self._counts.connects["unavailable"] += 1
            _log.error("subscriber not opened", site=self._site.name, reason=str(error))
            subscriber.close(Ending.STORE_AWAY)
        except Exception:
            _log.exception("subscriber not opened", site=self._site.name)
            subscriber.close(Ending.FAULT)
        else:
            self._opened(subscriber)
            await self._serve(subscriber)

    def _opened(self, subscriber: Subscriber) -> None:
        self._counts.connects["accepted"] += 1
        self.headcount.changed()
        _log.info(
            "subscriber connected",
            site=self._site.name,
            uuid=subscriber.uuid,
            channels=len(subscriber.channels),
            is_resumable=subscriber.resumption is not None,
        )

    # Actions

    def action_received(self, subscriber: Subscriber) -> None:
        """Called by the subscriber: its inbox is no longer empty."""
        self._errands.start(self._serve(subscriber))

    async def _serve(self, subscriber: Subscriber) -> None:
        while subscriber.inbox:
            actions, subscriber.inbox = subscriber.inbox, []
            for number, payload in enumerate(actions, 1):
                if subscriber.phase is SubscriberPhase.CLOSED:
                    return
                await self._answer(subscriber, payload)
                if number % _ACTIONS_PER_TURN == 0:
                    # Yield, so that many actions of one client do not delay the other clients.
                    await asyncio.sleep(0)
        subscriber.served()

    async def _answer(self, subscriber: Subscriber, payload: bytes) -> None:
        try:
            await self._act(subscriber, payload)
        except Malformed as error:
            subscriber.write(messages.error(400, str(error), error.details))
        except LimitReached as reached:
            subscriber.write(_too_many(reached))
        except StoreUnavailable:
            subscriber.write(messages.error(503, "Service unavailable", "Nothing has changed, try again."))
        except Exception:
            _log.exception("action failed", site=self._site.name)
            subscriber.close(Ending.FAULT)

    async def _act(self, subscriber: Subscriber, payload: bytes) -> None:
        action = messages.decode(payload, ClientAction)
        channel = action.data.channel
        if action.uuid is not None and action.uuid.lower() != subscriber.uuid:
            # The text does not say whether the uuid is another connection's: a stranger could look for uuids.
            details = "The given UUID does not belong to this WebSocket connection"
            subscriber.write(messages.error(403, "Forbidden", details))
        elif action.action == "SUBSCRIBE":
            await self._subscribe(subscriber, channel)
        else:
            await self._unsubscribe(subscriber, channel)

    async def _subscribe(self, subscriber: Subscriber, channel: str) -> None:
        if channel in subscriber.channels:
            subscriber.acknowledge(message=messages.SUBSCRIBED)
            return
        self._limits.check_rooms(self._site, len(subscriber.channels) + 1)
        if await self._keep(subscriber, channel) and await self.board.enter(subscriber, channel) is not None:
            # There is no await in between, so the ack precedes the first push.
            subscriber.acknowledge(message=messages.SUBSCRIBED)
        else:
            _refuse_unknown(subscriber, channel)

    async def _keep(self, subscriber: Subscriber, channel: str) -> bool:
        """Tells Redis of a resumable subscriber's subscription; False: there is no such channel."""
        if subscriber.resumption is None:
            return True
        kept = await self._store.keep_subscription(self._site, subscriber.resumption.claim, channel)
        if kept is Kept.GONE:
            subscriber.close(Ending.GONE)
        return kept is not Kept.UNKNOWN

    async def _unsubscribe(self, subscriber: Subscriber, channel: str) -> None:
        if subscriber.resumption is not None:
            await self._store.drop_subscription(self._site, subscriber.resumption.claim, channel)
        if channel in subscriber.channels:
            # There is no await in between, so no push of the channel follows this ack.
            self.board.leave(subscriber, channel)
            subscriber.acknowledge(message=messages.UNSUBSCRIBED)
        elif await self.board.exists(channel):
            subscriber.acknowledge(message=messages.UNSUBSCRIBED)
        else:
            _refuse_unknown(subscriber, channel)

    # Positions and losses

    def last_seq(self) -> int:
        """Called by the subscriber: see `Owner`."""
        return self.board.last_seq

    def pushed(self, subscriber: Subscriber) -> None:
        """Called by the subscriber: see `Owner`."""
        self.board.behind.append(subscriber)

    def position_confirmed(self, subscriber: Subscriber) -> None:
        """Called by the subscriber: see `Owner`."""
        self._positions.confirmed(_resumption_of(subscriber).position)

    def missed(self) -> None:
        """Handles a loss of pushes: a resumable client is told; a plain client's connection is closed, which is the
        only sign of a loss that the original has."""
        self._errands.start(self._errands.until_stored(self.board.verify, self._site.name))
        # A subscriber that is being opened reads the history, and is told of pushes that the history no longer holds.
        live = [one for one in self.board.subscribers.values() if one.channels and one.phase is SubscriberPhase.LIVE]
        plain = [one for one in live if one.resumption is None]
        for subscriber in live:
            if subscriber.resumption is not None:
                subscriber.acknowledge({"missed": True}, messages.MISSED)

        def those_left() -> list[Subscriber]:
            return [one for one in plain if one.phase is SubscriberPhase.LIVE and not one.is_closing]

        # A small number of subscribers is closed sooner.
        seconds = min(_MISSED_SECONDS, len(plain) * STEP_SECONDS)
        closing = close_in_steps(those_left, lambda one: one.close(Ending.MISSED), seconds)
        self._errands.start(closing)

    # Leaving

    def lost(self, subscriber: Subscriber, reason: str) -> None:
        """Called by the subscriber: its WebSocket is gone."""
        # A subscriber that another connection took over on this node has left the board, and must not be released.
        if subscriber.resumption is not None and self.board.subscribers.get(subscriber.uuid) is subscriber:
            self._positions.release(subscriber.resumption.position)
        if subscriber.facts is not None:
            row = row_of("channels", subscriber.facts, subscriber.measures(), _close_reason(reason))
            self._records.add("connections", self._site.name, row)
        self.board.remove(subscriber)
        self.headcount.changed()
        self._limits.disconnect(subscriber.seat)
        self._counts.connections -= 1
        self._counts.closes[_close_reason(reason)] += 1
        _log.info("subscriber disconnected", site=self._site.name, uuid=subscriber.uuid, reason=reason)

    async def drain(self, seconds: float, ending: Ending = Ending.RESTART) -> None:
        """Tells all subscribers to leave, spread over this time, and waits until they have gone."""

        def those_left() -> list[Subscriber]:
            return [one for one in self.board.subscribers.values() if not one.is_closing]

        await close_in_steps(those_left, lambda one: one.close(ending), seconds)
        if self.board.subscribers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.board.wait_deserted(), _FAREWELL_SECONDS)

    async def close(self) -> None:
        """Waits until all pending writes have reached Redis. Called at the end of the node, with a time-out."""
        self.headcount.end()
        await self._errands.drain()


def _resumption_of(subscriber: Subscriber) -> Resumption:
    assert subscriber.resumption is not None, "only resumable subscribers have a position"
    return subscriber.resumption


def _too_many(reached: LimitReached) -> bytes:
    return messages.error(reached.status, "Too many requests", str(reached))


def _refuse_unknown(subscriber: Subscriber, channel: str) -> None:
    subscriber.write(messages.error(404, "Not found", messages.unknown_channel(channel)))


def _close_reason(reason: str) -> str:
    """Maps a reason to one of few labels for the metric, because a client may give any text as its reason."""
    return reason if reason in _OUR_REASONS else "client"
