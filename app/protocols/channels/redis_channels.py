"""`ChannelStore` on Redis: each method is one run of a script; see `lua/` and `redis_keys.py`."""

from collections.abc import Awaitable, Sequence
from typing import Any

from app.config.settings import Site
from app.core.message import Audience
from app.protocols.channels.channel_store import (
    ChannelDigests,
    ChannelsPart,
    Claim,
    Creation,
    Kept,
    KeptSubscription,
    Position,
    Resumed,
)
from app.protocols.channels.settings import Channels
from app.redis.client import Commands
from app.redis.link import Word
from app.store.audience import audience_head
from app.store.keys import prefix

#: A connection confirms its subscriber about twice in this time; without a confirmation its node was killed.
UNCONFIRMED_SECONDS = 60
_CHANNELS_PER_PART = 500


class RedisChannels:
    """The channels of all sites, for one node. Holds no state but the link. Lives as long as the node."""

    def __init__(self, redis: Commands, node: str) -> None:
        self._redis = redis
        self._node = node

    def create_channel(
        self, site: Site, channel: str, digest: bytes, is_renewable: bool = False
    ) -> Awaitable[Creation]:
        """Creates a channel; see `ChannelStore`."""
        most, deadline_ms = site.require_section(Channels).max_channels, self._redis.deadline_ms(prefix(site.name))
        words = ("", deadline_ms, channel, digest, most, int(is_renewable))
        return _to_creation(self._run("create_channel", site, *words))

    def withdraw_channel(self, site: Site, channel: str, digest: bytes) -> Awaitable[None]:
        """Withdraws a channel; see `ChannelStore`."""
        return self._run("withdraw_channel", site, channel, digest)

    def channel_digests(self, site: Site, channels: Sequence[str]) -> Awaitable[list[bytes | None]]:
        """The digests of channels; see `ChannelStore`."""
        return self._run("channel_digests", site, *channels)

    def find_channel(self, site: Site, channel: str) -> Awaitable[ChannelDigests | None]:
        """A channel's digests; see `ChannelStore`."""
        return _to_digests(self._run("find_channel", site, channel))

    def list_channels(self, site: Site, cursor: int) -> Awaitable[ChannelsPart]:
        """A part of the channels; see `ChannelStore`."""
        return _to_part(self._node, self._run("list_channels", site, cursor, _CHANNELS_PER_PART))

    def note_subscribers(self, site: Site, count: int, node: str | None = None) -> Awaitable[None]:
        """Notes the number of a node's subscribers; see `ChannelStore`."""
        return self._run("note_clients", site, node or self._node, count)

    def register_subscriber(self, site: Site, uuid: str, digest: bytes) -> Awaitable[Position]:
        """Keeps a subscriber; see `ChannelStore`."""
        return _to_position(uuid, self._run("register_subscriber", site, uuid, digest, _ttl_of_connected_ms(site)))

    def resume_subscriber(self, site: Site, uuid: str, digest: bytes) -> Awaitable[Resumed | None]:
        """Takes a subscriber over; see `ChannelStore`."""
        return _to_resumed(uuid, self._run("resume_subscriber", site, uuid, digest, _ttl_of_connected_ms(site)))

    def keep_subscription(self, site: Site, claim: Claim, channel: str) -> Awaitable[Kept]:
        """Keeps a subscription; see `ChannelStore`."""
        return _to_kept(self._run("keep_subscription", site, "keep", claim.uuid, claim.number, channel))

    def drop_subscription(self, site: Site, claim: Claim, channel: str) -> Awaitable[None]:
        """Drops a subscription; see `ChannelStore`."""
        return self._run("keep_subscription", site, "drop", claim.uuid, claim.number, channel)

    def confirm_positions(
        self, site: Site, positions: Sequence[Position], detail: bytes | None = None
    ) -> Awaitable[list[str]]:
        """Records positions; see `ChannelStore`."""
        head = None if detail is None else audience_head(Audience("channels", [], detail))
        told = ("", "", "") if head is None else (self._node, site.name, head)
        return self._confirm(site, _ttl_of_connected_ms(site), told, positions)

    def release_subscriber(self, site: Site, position: Position) -> Awaitable[list[str]]:
        """Records the end of a connection; see `ChannelStore`."""
        return self._confirm(site, site.device_ttl_seconds * 1000, ("", "", ""), [position])

    def _confirm(
        self, site: Site, ttl_ms: int, told: tuple[Word, Word, Word], positions: Sequence[Position]
    ) -> Awaitable[list[str]]:
        words: list[Word] = []
        for position in positions:
            words += (position.claim.uuid, position.claim.number, position.seq)
        return _to_texts(self._run("confirm_positions", site, ttl_ms, *told, *words))

    def _run(self, script: str, site: Site, *words: Word) -> Awaitable[Any]:
        return self._redis.run(script, prefix(site.name), *words)


def _ttl_of_connected_ms(site: Site) -> int:
    """The time to live of a connected subscriber in ms; 0: no expiry."""
    ttl_seconds = site.device_ttl_seconds
    return (ttl_seconds + UNCONFIRMED_SECONDS) * 1000 if ttl_seconds else 0


async def _to_creation(answer: Awaitable[Any]) -> Creation:
    return Creation((await answer).decode())


async def _to_digests(answer: Awaitable[Any]) -> ChannelDigests | None:
    words = await answer
    return ChannelDigests(*words) if words else None


async def _to_part(node: str, answer: Awaitable[Any]) -> ChannelsPart:
    cursor, channels, noted, *names = await answer
    elsewhere = sum(int(noted[i + 1]) for i in range(0, len(noted), 2) if noted[i].decode() != node)
    return ChannelsPart(int(cursor), [name.decode() for name in names], channels, elsewhere)


async def _to_position(uuid: str, answer: Awaitable[Any]) -> Position:
    return Position(Claim(uuid, 1), int(await answer))


async def _to_resumed(uuid: str, answer: Awaitable[Any]) -> Resumed | None:
    words = await answer
    if words is None:
        return None
    claim, seq, *rest = words
    rows = sorted((rest[i : i + 5] for i in range(0, len(rest), 5)), key=lambda row: int(row[0]))
    subscriptions = [
        KeptSubscription(channel.decode(), int(since), digest, int(deleted) if deleted else None)
        for _, channel, since, digest, deleted in rows
    ]
    return Resumed(Position(Claim(uuid, claim), int(seq)), subscriptions)


async def _to_kept(answer: Awaitable[Any]) -> Kept:
    return Kept((await answer).decode())


async def _to_texts(answer: Awaitable[Any]) -> list[str]:
    return [text.decode() for text in await answer]
