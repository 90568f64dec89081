"""`QueueStore` on Redis: each method is one run of the script that bears its name; see `lua/` and `keys.py`."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from msgspec import structs

from app.config.settings import Site
from app.core.address import addresses, room_names, user_rooms
from app.core.message import History, Message
from app.core.options import NO_OPTIONS
from app.core.ports import (
    NO_CONNECT_NOTES,
    AckGroup,
    BuriedConnection,
    ConnectNotes,
    Registered,
    Registration,
    Replay,
    RoomsChange,
    Stored,
)
from app.core.written import Written
from app.errors import GuardRefused, OtherRequest, RoomsChanged
from app.redis.client import Commands, RunScript
from app.redis.link import Word
from app.store.audience import audience_words, guard_words, to_remembered
from app.store.flights import FLIGHT_SECONDS, FlightGate, words_of_acks
from app.store.keys import audience_key, members_key, prefix
from app.store.large_sends import LARGE_FROM, LEASE_SECONDS, LargeSends
from app.store.send_words import except_word, once_words, waiter_words
from app.store.terms import limit_reached, terms_of
from app.store.turn_sends import TurnSends, is_for_turn
from app.store.waiting_words import to_replayed, to_waiting
from app.surrogates import decode_text, encode_text

#: Answers of send.lua that are no final answer: `LargeSends` knows them.
_IN_PARTS = (b"busy", b"large")
#: The devices that one run of recover.lua marks.
_DEVICES_A_RUN = 1_000

#: The numbers of an answer of send.lua behind the seq; the connected devices follow.
_NUMBERS = 4

_log = structlog.get_logger(__name__)


async def _number(answer: Awaitable[Any]) -> int:
    return int(await answer)


class RedisQueues:
    """The queues of all sites, for one node. Holds no state but the link; lives as long as the node."""

    def __init__(self, redis: Commands, node: str, max_message_bytes: int, has_journal: bool = False) -> None:
        """`max_message_bytes` bounds the body of every message that is sent: the scripts rely on it. `has_journal`:
        whether the scripts write for a journal."""
        self.has_journal = has_journal
        self._redis = redis
        self._node = node
        self._max_message_bytes = max_message_bytes
        #: Whether messages fly: `Node` opens it.
        self.flights = FlightGate(max_message_bytes)
        self._prefixes: dict[str, str] = {}
        #: The highest seq that this node knows of, by site.
        self._highest: dict[str, int] = {}
        redis.on_reconnect = self._recover
        #: Called with a site that may have something to forget after so many seconds; see `Expiry`.
        self.on_due: Callable[[Site, float], None] = lambda site, seconds: None
        #: The sites of scripts since somebody has emptied it.
        self.touched: set[str] = set()
        #: Messages to users.
        self._turns = TurnSends(self._run_turn, self._send_alone, self.note_seq)
        #: Messages to very many devices.
        self.large = LargeSends(self._run, max_message_bytes)
        #: The time for scripts in milliseconds since the epoch; "" is Redis's own clock. Tests set it.
        self.now_ms: int | str = ""

    def is_away(self, site: str) -> bool:
        """Whether there is no link for the site; see `QueueStore`."""
        shard = self._redis.shard_of(prefix(site))
        return shard is None or not shard.is_available

    def send(self, message: Message) -> Awaitable[Stored]:
        """Stores a message and tells the nodes; see `QueueStore`."""
        return self._turns.add(message) if is_for_turn(message) else self._send_alone(message)

    def _send_alone(self, message: Message) -> Awaitable[Stored]:
        # Run the script here, not in the coroutine: commands take effect in the order of the calls.
        return self._sent(message, self._run_send(message))

    def _run_turn(self, site: Site, messages: Sequence[Message], words: Sequence[Word]) -> Awaitable[Any]:
        limit, deadline = site.queue_limit, self._deadline(site)
        most = self.flights.most_beside_all(messages)
        if most:
            self.on_due(site, FLIGHT_SECONDS)
        bounds = (limit.messages, limit.bytes, self._max_message_bytes, self.large.large_from)
        keeps = int(site.journal_bodies)
        return self._run("send_turn", site, self.now_ms, deadline, site.name, *bounds, keeps, most, *words)

    def _run_send(self, message: Message) -> Awaitable[Any]:
        limit = message.site.queue_limit
        most = self.flights.most_beside(message)
        if most:
            self.on_due(message.site, FLIGHT_SECONDS)
        return self._run(
            "send",
            message.site,
            self.now_ms,
            terms_of(message.site, self._deadline(message.site), message.weight),
            message.site.name,
            message.id,
            message.event,
            message.body,
            int(message.resync),
            limit.messages,
            limit.bytes,
            self._max_message_bytes,
            self.large.large_from,
            msgspec.json.encode(list(message.rooms)),
            message.options.encode(),
            once_words(message),
            waiter_words(message, self._node),
            int(message.site.journal_bodies),
            except_word(message),
            most,
            *guard_words(message.guard),
            *audience_words(message.audiences),
            *addresses(message.site, message.rooms),
        )

    def publish(self, message: Message) -> Awaitable[Stored]:
        """Tells the nodes with connections in the rooms; see `QueueStore`."""
        rooms = room_names(message.rooms)
        name, body = message.site.name, message.body
        return self._stored(
            message.site,
            self._run(
                "publish",
                message.site,
                self.now_ms,
                terms_of(message.site, self._deadline(message.site), message.weight),
                name,
                message.id,
                msgspec.json.encode(rooms),
                body,
                message.event,
                once_words(message),
                int(message.site.journal_bodies),
                *guard_words(message.guard),
                *audience_words(message.audiences),
                *rooms,
            ),
        )

    def connect(
        self, site: Site, connection: int, device_id: str, rooms: Sequence[str], notes: ConnectNotes = NO_CONNECT_NOTES
    ) -> Awaitable[Registration]:
        """Registers a connection; see `QueueStore`."""
        limit = site.batch_limit
        names = msgspec.json.encode(room_names(rooms))
        users = user_rooms(site, rooms)
        return self._registered(
            site,
            self._run(
                "connect",
                site,
                self.now_ms,
                self._node,
                connection,
                encode_text(device_id),
                names,
                limit.messages,
                limit.bytes,
                site.public_channel or "",
                self._deadline(site),
                encode_text(notes.note),
                site.limits.devices_per_user,
                encode_text(notes.client),
                notes.rooms_at or "",
                *users,
            ),
        )

    def change_rooms(self, site: Site, change: RoomsChange) -> Awaitable[int]:
        """Lets a user join and leave rooms; see `QueueStore`."""
        joins, leaves = (msgspec.json.encode(room_names(rooms)) for rooms in (change.joins, change.leaves))
        words = (self._deadline(site), change.number or "", encode_text(change.user_room), joins, leaves, change.most)
        return _number(self._run("change_rooms", site, self.now_ms, *words))

    def set_device_rooms(self, site: Site, user_room: str, device_id: str, rooms: Sequence[str]) -> Awaitable[int]:
        """Gives a device rooms of its own; see `QueueStore`."""
        words = (encode_text(user_room), encode_text(device_id), msgspec.json.encode(room_names(rooms)))
        return _number(self._run("device_rooms", site, self.now_ms, self._deadline(site), *words))

    def disconnect(self, site: Site, connection: int, devices: Sequence[tuple[bytes, int]]) -> Awaitable[list[bool]]:
        """Takes a connection out; see `QueueStore`."""
        words: list[Word] = [self._leaving(site), *(word for pair in devices for word in pair)]
        return self._ended(self._run("disconnect", site, self.now_ms, self._node, connection, *words))

    def withdraw(self, site: Site, connection: int, device_id: str, rooms: Sequence[str]) -> Awaitable[None]:
        """Takes out a connection that may have been registered; see `QueueStore`."""
        words: list[Word] = [self._leaving(site), encode_text(device_id), *user_rooms(site, rooms)]
        return self._run("withdraw", site, self.now_ms, self._node, connection, *words)

    def replay(self, site: Site, connection: int, after: Sequence[tuple[bytes, int]]) -> Awaitable[Replay]:
        """Reads messages that wait after a seq; see `QueueStore`."""
        limit = site.batch_limit
        words: list[Word] = [word for pair in after for word in pair]
        return self._replayed(self._run("replay", site, self._node, connection, limit.messages, limit.bytes, *words))

    def ack(self, site: Site, groups: Sequence[AckGroup]) -> Awaitable[list[bytes]]:
        """Removes acknowledged messages; see `QueueStore`."""
        return self._run("ack", site, self.now_ms, *words_of_acks(self._node, groups))

    def land(self, site: Site) -> Awaitable[int]:
        """Lands the messages in flight of a site; answers how many."""
        return _number(self._run("land", site))

    def note_written(self, site: Site, written: Sequence[Written]) -> Awaitable[None]:
        """Tells the journal of messages that wait for their acks; see `QueueStore`."""
        lines = (b"%d %d %b" % (one.seq, one.at_ms, b",".join(one.handles)) for one in written)
        return self._run("note_written", site, b"\n".join(lines))

    async def withdraw_message(self, site: Site, id: int, cursor: bytes) -> tuple[bytes, int] | None:
        """Takes a message out of a part of the queues; see `QueueStore`."""
        answer = await self._run("withdraw_message", site, id, cursor, _DEVICES_A_RUN)
        return None if answer is None else (answer[0], answer[1])

    def stop_waiting(self, site: Site, seq: int) -> Awaitable[None]:
        """Nobody waits for the acks of a message any more; see `QueueStore`."""
        return self._run("stop_waiting", site, seq)

    def whisper(self, site: Site, rooms: Sequence[str], body: bytes) -> Awaitable[int]:
        """Hands an event to connected devices; see `QueueStore`."""
        return _number(self._run("whisper", site, body, LARGE_FROM, *addresses(site, rooms)))

    async def forget_device(self, site: Site, user: str, device_id: str, resync: bool) -> bool:
        """Forgets a device, or drops its queue; see `QueueStore`."""
        return bool(await self._run("forget_device", site, user, encode_text(device_id), int(resync)))

    def settle(self, site: Site, last_seq: int, handles: Sequence[bytes]) -> Awaitable[None]:
        """Notes that the `_resync` of these devices has arrived; see `QueueStore`."""
        return self._run("settle", site, last_seq, *handles)

    def join(self, site: Site, rooms: Sequence[str]) -> Awaitable[None]:
        """Notes that this node has connections in the rooms; see `QueueStore`."""
        return self._run("member", site, "join", self._node, *map(members_key, rooms))

    def leave(self, site: Site, rooms: Sequence[str]) -> Awaitable[None]:
        """Notes that this node has no connection in the rooms any more; see `QueueStore`."""
        return self._run("member", site, "leave", self._node, *map(members_key, rooms))

    def join_audience(self, site: Site, protocol: str, names: Sequence[str]) -> Awaitable[int]:
        """Notes that this node listens to the names; see `QueueStore`."""
        keys = [audience_key(protocol, name) for name in names]
        return _number(self._run("member", site, "join", self._node, *keys))

    def leave_audience(self, site: Site, protocol: str, names: Sequence[str]) -> Awaitable[int]:
        """Notes that this node does not listen to the names any more; see `QueueStore`."""
        keys = [audience_key(protocol, name) for name in names]
        return _number(self._run("member", site, "leave", self._node, *keys))

    def history(
        self, site: Site, protocol: str, after_seq: int, max_messages: int, max_bytes: int
    ) -> Awaitable[History]:
        """Reads a protocol's history; see `QueueStore`."""
        return self._history(site, self._run("history", site, protocol, after_seq, max_messages, max_bytes))

    async def expire(self, site: Site, at_most: int = 200) -> tuple[int, float | None]:
        """Forgets devices that have been away for longer than their time to live.

        Answers how many, and the seconds until the next one is due. Unless it was none more may be due already.
        """
        forgotten, next_ms = await self._run("expire", site, self.now_ms, at_most)
        return forgotten, None if next_ms < 0 else next_ms / 1000

    async def bury(
        self, site: Site, node: str, last_beat_ms: int | str, at_most: int = 500
    ) -> tuple[bool, list[BuriedConnection]]:
        """Takes connections of a dead node out of a site: whether more are left, and the ones that were taken out.

        They count as gone since the node's last beat; "" is now.
        """
        ttl_ms = site.device_ttl_seconds * 1000
        left, since_ms, *taken = await self._run("bury", site, node, last_beat_ms, ttl_ms, at_most)
        if taken:
            self.on_due(site, 0)
        since = datetime.fromtimestamp(since_ms / 1000, UTC)
        pairs = zip(taken[::2], taken[1::2], strict=True)
        return left > 0, [BuriedConnection(site, user.decode(), decode_text(note), since) for user, note in pairs]

    def _leaving(self, site: Site) -> int:
        """The time to live in ms of a device of this site that goes away now."""
        if site.device_ttl_seconds:
            self.on_due(site, site.device_ttl_seconds)
        return site.device_ttl_seconds * 1000

    def _run(self, script: str, site: Site, *words: Word) -> Awaitable[Any]:
        self._turns.flush(site.name)
        self.touched.add(site.name)
        key = self._prefixes.get(site.name)
        if key is None:
            key = self._prefixes[site.name] = prefix(site.name)
        return self._redis.run(script, key, *words)

    async def _recover(self, run_id: str, run: RunScript) -> None:
        """Checks whether Redis has come back without its newest writes: see recover.lua."""
        known = list(self._highest.items())
        await asyncio.gather(*(self._recover_site(run_id, run, site, highest) for site, highest in known))

    async def _recover_site(self, run_id: str, run: RunScript, site: str, highest: int) -> None:
        marked, cursor = 0, b"0"
        while True:
            words = (self.now_ms, run_id, highest, site, cursor, _DEVICES_A_RUN)
            count, cursor = await run("recover", prefix(site), *words)
            marked += count
            if cursor == b"0":
                break
        if marked:
            _log.error("redis has lost messages", site=site, devices_to_resync=marked)

    def note_seq(self, site: str, seq: int) -> None:
        """Notes a seq that this node knows of: Redis must know it when it comes back."""
        if seq > self._highest.get(site, 0):
            self._highest[site] = seq

    def _heard(self, site: Site, seq: bytes) -> int:
        number = int(seq)
        self.note_seq(site.name, number)
        return number

    def _deadline(self, site: Site) -> int | str:
        return "" if self.now_ms != "" else self._redis.deadline_ms(prefix(site.name))

    async def _sent(self, message: Message, answer: Awaitable[Any]) -> Stored:
        words = await answer
        if (options := message.options) is not NO_OPTIONS:
            for seconds in (options.ttl, options.ack_within):
                if seconds:
                    self.on_due(message.site, seconds)
        if words[0] in _IN_PARTS:
            self.large.now_ms = self.now_ms
            # Should this node not be able to finish it, another run ends it.
            self.on_due(message.site, LEASE_SECONDS)
            words = await self.large.finish(message, words, lambda: self._run_send(message))
        return self._to_stored(message.site, words)

    async def _stored(self, site: Site, answer: Awaitable[Any]) -> Stored:
        return self._to_stored(site, await answer)

    def _to_stored(self, site: Site, words: Any) -> Stored:
        seq, *told = words
        if not seq:
            raise limit_reached(site, *told)
        if seq == b"again":
            return Stored(int(told[2] or 0), told[1], earlier_id=told[0].decode())
        if seq == b"other":
            raise OtherRequest
        if not told:
            raise GuardRefused(is_missing=seq == b"missing")
        connected = told[_NUMBERS] if len(told) > _NUMBERS else b""
        stored = Stored(self._heard(site, seq), *told[:_NUMBERS])
        return structs.replace(stored, connected=connected.split(b",")) if connected else stored

    async def _history(self, site: Site, answer: Awaitable[Any]) -> History:
        last_seq, is_complete, has_more, *words = await answer
        messages, unreadable = [], 0
        for start in range(0, len(words), 5):
            message = to_remembered(*words[start : start + 5])
            if message.audience is not None and not message.audience.protocol:
                unreadable += 1
            messages.append(message)
        if unreadable:
            # They are told as missed: the messages behind them must not wait.
            _log.error("history entries unreadable", site=site.name, count=unreadable)
        is_whole = is_complete == b"1" and not unreadable
        return History(self._heard(site, last_seq), is_whole, has_more == b"1", messages)

    async def _registered(self, site: Site, answer: Awaitable[Any]) -> Registration:
        last_seq, *devices = await answer
        if last_seq == b"stale":
            raise RoomsChanged
        registered = [
            Registered(handle, lost == b"1", to_waiting(waiting), withdrawn.decode().split(",")[:-1])
            for handle, lost, waiting, withdrawn in devices
        ]
        return Registration(self._heard(site, last_seq), registered)

    async def _ended(self, answer: Awaitable[list[int]]) -> list[bool]:
        return [is_ours == 1 for is_ours in await answer]

    async def _replayed(self, answer: Awaitable[Any]) -> Replay:
        last_seq, *devices = await answer
        return Replay(int(last_seq), [to_replayed(state, waiting) for state, waiting in devices])
