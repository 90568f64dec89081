"""`Mailboxes` on the application's Redis: each method runs the script of the same name; see `redis_keys.py`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

from app.config.settings import Site
from app.protocols.redis_publish.mailbox_ports import Letter, LetterOutcome, Part
from app.protocols.redis_publish.redis_keys import (
    channel_subscribers,
    node_users,
    nodes_key,
    publish_prefix,
    user_key,
    waiting_messages,
)
from app.protocols.redis_publish.settings import RedisPublish
from app.redis.client import Commands

#: How long an id from the application is remembered.
DEDUPE_SECONDS = 86_400
_SCAN_COUNT = 1_000


class RedisMailboxes:
    """The mailboxes of one site, for one node. Holds no state but the link; lives as long as the node."""

    def __init__(self, redis: Commands, node: str, site: Site, settings: RedisPublish) -> None:
        self._redis = redis
        self._node = node
        self._settings = settings
        self._queue_limit = site.queue_limit
        self._batch_limit = site.batch_limit
        self._own = publish_prefix(settings.prefix)
        #: The prefix of the nodes' channels, for asking whether a node is subscribed. '' in a Cluster: its servers know
        #: only their own subscribers.
        self._channels = "" if redis.is_sharded else self._own
        #: The prefix of the nodes' channels, for telling connections that wait for an ack that another connection has
        #: sent it.
        self._waits_for_acks = self._own if settings.ack else ""

    def key_of(self, user: str) -> Awaitable[bytes | None]:
        """The user's key; see `Mailboxes`."""
        return self._redis.command("GET", user_key(self._settings.prefix, user))

    async def members(self, channel: str) -> AsyncIterator[list[str]]:
        """The subscribers of a channel; see `Mailboxes`."""
        key = channel_subscribers(self._settings.prefix, channel)
        # SSCAN may give a member twice.
        cursor, seen = b"0", set[bytes]()
        while True:
            cursor, found = await self._redis.command("SSCAN", key, cursor, "COUNT", _SCAN_COUNT)
            yield [member.decode("utf-8", "replace") for member in dict.fromkeys(found) if member not in seen]
            if cursor == b"0":
                return
            seen.update(found)

    def deliver(self, user: str, letter: Letter, until_ms: int) -> Awaitable[LetterOutcome]:
        """Tells the user's nodes, or queues; see `Mailboxes`."""
        settings, limit, key = self._settings, self._queue_limit, self._list(user)
        # In a Cluster the lease and the user may be on shards whose clocks differ.
        clocks_ms = self._redis.deadline_ms(key) - self._redis.deadline_ms(self._own)
        answer = self._redis.run(
            "mailbox_deliver",
            key,
            user,
            letter.entry,
            until_ms + clocks_ms,
            settings.queue_expiry_seconds,
            int(settings.ack),
            limit.messages,
            limit.bytes,
            self._own,
            self._channels,
            letter.stream_id,
            letter.dedupe_id,
            DEDUPE_SECONDS,
        )
        return self._outcome(answer)

    def join(self, user: str, connection: int) -> Awaitable[Part]:
        """Registers a connection, and returns waiting messages; see `Mailboxes`."""
        settings, limit = self._settings, self._batch_limit
        # This comes first, so that a node that buries this one finds the user.
        self._redis.command("SADD", self._users(self._node), user)
        return self._part(
            self._redis.run(
                "mailbox_join",
                self._list(user),
                user,
                self._node,
                connection,
                settings.conn_limit,
                settings.queue_expiry_seconds,
                limit.messages,
                limit.bytes,
                self._own,
                self._channels,
            )
        )

    def take(self, user: str, connection: int, confirmed: Sequence[bytes]) -> Awaitable[Part | None]:
        """Confirms messages, and returns the next part; see `Mailboxes`."""
        limit = self._batch_limit
        return self._part_or_none(
            self._redis.run(
                "mailbox_take",
                self._list(user),
                self._node,
                connection,
                limit.messages,
                limit.bytes,
                self._channels,
                user,
                self._waits_for_acks,
                *confirmed,
            )
        )

    def confirm(self, user: str, entries: Sequence[bytes]) -> Awaitable[None]:
        """Removes the messages that a client has; see `Mailboxes`."""
        return self._redis.run("mailbox_confirm", self._list(user), user, self._waits_for_acks, *entries)

    def leave(self, user: str, connection: int, is_last_here: bool) -> Awaitable[None]:
        """Removes a connection; see `Mailboxes`."""
        answer = self._redis.run(
            "mailbox_leave", self._list(user), self._node, connection, self._settings.queue_expiry_seconds
        )
        if is_last_here:
            self._redis.command("SREM", self._users(self._node), user)
        return answer

    async def bury(self, node: str) -> int:
        """Removes all connections of a dead node, and returns how many. Raises StoreUnavailable: then retry."""
        taken, buried = 0, f"{self._users(node)}:buried"
        while users := await self._users_to_bury(node, buried):
            expiry_seconds = self._settings.queue_expiry_seconds
            leaving = [
                self._redis.run("mailbox_leave", self._list(user.decode()), node, "", expiry_seconds) for user in users
            ]
            taken += sum(await asyncio.gather(*leaving))
            await self._redis.command("SREM", buried, *users)
        await self._redis.command("ZREM", nodes_key(self._settings.prefix), node)
        return taken

    async def _users_to_bury(self, node: str, buried: str) -> list[bytes]:
        """Some users of a dead node. All are moved aside first, in one command: users that the node adds later, because
        it was only paused, stay in its own set for a later burial."""
        users: list[bytes] = await self._redis.command("SRANDMEMBER", buried, _SCAN_COUNT)
        if users or not await self._redis.command("EXISTS", self._users(node)):
            return users
        await self._redis.command("RENAMENX", self._users(node), buried)
        users = await self._redis.command("SRANDMEMBER", buried, _SCAN_COUNT)
        return users

    def _list(self, user: str) -> str:
        return waiting_messages(self._settings.prefix, user)

    def _users(self, node: str) -> str:
        return node_users(self._settings.prefix, node)

    async def _outcome(self, answer: Awaitable[Any]) -> LetterOutcome:
        result, dropped = await answer
        return LetterOutcome(result.decode(), dropped)

    async def _part(self, answer: Awaitable[Any]) -> Part:
        last_told, is_first, has_more, *entries = await answer
        return Part(last_told, bool(is_first), bool(has_more), entries)

    async def _part_or_none(self, answer: Awaitable[Any]) -> Part | None:
        words = await answer
        return Part(words[0], bool(words[1]), bool(words[2]), words[3:]) if words else None
