"""Channels and their subscribers as Redis keeps them: the port that the protocol `channels` needs of the store."""

from collections.abc import Awaitable, Sequence
from enum import Enum
from typing import Protocol

from msgspec import Struct

from app.config.settings import Site


class Creation(Enum):
    """What became of a channel that was to be created."""

    CREATED = "created"
    #: There is one of that name.
    EXISTS = "exists"
    #: The site has as many as it may have.
    FULL = "full"


class Kept(Enum):
    """What became of a subscription that was to be kept."""

    KEPT = "kept"
    #: There is no channel of that name.
    UNKNOWN = "unknown"
    #: Another connection has taken the subscriber over, or it is forgotten.
    GONE = "gone"


class Claim(Struct, frozen=True):
    """A resumable subscriber as one connection holds it: who resumes takes it over, under the next number."""

    uuid: str
    number: int


class Position(Struct, frozen=True):
    """Up to which seq a resumable subscriber is known to have everything."""

    claim: Claim
    seq: int


class KeptSubscription(Struct, frozen=True):
    """A resumable subscriber's channel, as it was when it subscribed."""

    channel: str
    #: What was pushed up to this seq is not for it.
    since_seq: int
    #: Of the channel's token: a channel that was deleted and created again is another one.
    digest: bytes
    #: Of the channel's deletion, up to which all that was pushed there is for it; None: it exists.
    deleted_seq: int | None = None


class Resumed(Struct, frozen=True):
    """A subscriber that came back: what it has, and its channels in the order of subscribing, among them those
    that were deleted behind its position."""

    position: Position
    subscriptions: list[KeptSubscription]


class ChannelStore(Protocol):
    """Every method is atomic and raises StoreUnavailable when it may not have happened. Nothing blocks.

    Commands take effect in the order of the calls. A channel is known by the digest of its token, a subscriber by that
    of its secret; neither secret gets here. What a channel's guard needs is in the hash `channels`, by name.
    """

    def create_channel(self, site: Site, channel: str, digest: bytes) -> Awaitable[Creation]:
        """Creates the channel if there is none of that name: of several callers on any nodes one succeeds."""

    def withdraw_channel(self, site: Site, channel: str, digest: bytes) -> Awaitable[None]:
        """Takes back a channel whose `create_channel` failed, so that nobody knows whether it exists. Idempotent."""

    def channel_digests(self, site: Site, channels: Sequence[str]) -> Awaitable[list[bytes | None]]:
        """The digests of these channels, in their order; None: there is none of that name."""

    def register_subscriber(self, site: Site, uuid: str, digest: bytes) -> Awaitable[Position]:
        """Keeps a resumable subscriber for as long as its connection confirms it, and `device_ttl` longer."""

    def resume_subscriber(self, site: Site, uuid: str, digest: bytes) -> Awaitable[Resumed | None]:
        """Takes a subscriber over from whatever connection had it; None: no such uuid and secret (any more)."""

    def keep_subscription(self, site: Site, claim: Claim, channel: str) -> Awaitable[Kept]:
        """A resumable subscriber has subscribed to a channel as it is now; what is pushed from now on is for it."""

    def drop_subscription(self, site: Site, claim: Claim, channel: str) -> Awaitable[None]:
        """It has unsubscribed. Idempotent."""

    def confirm_positions(
        self, site: Site, positions: Sequence[Position], detail: bytes | None = None
    ) -> Awaitable[list[str]]:
        """Notes how far these are and that they are connected; answers the uuids that others have taken over, or that
        are forgotten. With `detail`, this node hears it as an audience would, under the site's last seq: then it has
        heard all up to there."""

    def release_subscriber(self, site: Site, position: Position) -> Awaitable[list[str]]:
        """Its connection is gone: it is kept for `device_ttl` from now. Answers as `confirm_positions`."""
