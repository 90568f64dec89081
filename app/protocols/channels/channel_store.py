"""Channels and their subscribers as Redis keeps them: the port that the protocol `channels` needs of the store."""

from collections.abc import Awaitable, Sequence
from enum import Enum
from typing import Protocol

from msgspec import Struct

from app.config.settings import Site


class Creation(Enum):
    """The outcome of creating a channel."""

    CREATED = "created"
    #: A channel of that name exists, and has this token from now on.
    RENEWED = "renewed"
    #: A channel of that name exists.
    EXISTS = "exists"
    #: The site has reached its limit of channels.
    FULL = "full"


class Kept(Enum):
    """The outcome of keeping a subscription in Redis."""

    KEPT = "kept"
    #: There is no channel of that name.
    UNKNOWN = "unknown"
    #: Another connection has taken the subscriber over, or Redis has forgotten it.
    GONE = "gone"


class Claim(Struct, frozen=True):
    """A resumable subscriber as held by one connection. A connection that resumes the
    subscriber takes it over under the next number."""

    uuid: str
    number: int


class Position(Struct, frozen=True):
    """The seq up to which a resumable subscriber is known to have everything."""

    claim: Claim
    seq: int


class KeptSubscription(Struct, frozen=True):
    """A channel of a resumable subscriber, as it was at the time of subscribing."""

    channel: str
    #: Pushes up to this seq are not for the subscriber.
    since_seq: int
    #: The channel's digest: a channel that was deleted and created again has another one.
    digest: bytes
    #: The seq of the channel's deletion: pushes up to there are for the subscriber. None: the channel exists.
    deleted_seq: int | None = None


class ChannelDigests(Struct, frozen=True):
    """The digests of one channel."""

    #: Of its first token, which the channel is known by.
    first: bytes
    #: Of its newest token, which publishers present.
    token: bytes


class ChannelsPart(Struct, frozen=True):
    """A part of a site's channels, and figures of the whole site."""

    #: For the next part; 0: there is none.
    cursor: int
    names: list[str]
    #: How many channels there are.
    channels: int
    #: The subscribers of the other nodes, as each has noted its own last.
    subscribers_elsewhere: int


class Resumed(Struct, frozen=True):
    """A resumed subscriber: its position, and its channels in the order of subscribing. Channels that were deleted
    after its position are among them."""

    position: Position
    subscriptions: list[KeptSubscription]


class ChannelStore(Protocol):
    """The store of channels and resumable subscribers.

    Every method is atomic and raises StoreUnavailable when the command may not have run. No method blocks. Commands
    take effect in the order of the calls. The store knows the digest of a channel's token and of a subscriber's secret,
    never the token or the secret. A channel keeps the digest of its first token while it exists, which tells it
    from an earlier channel of the same name. The guard of a push compares with the digest of the newest token.
    """

    def create_channel(
        self, site: Site, channel: str, digest: bytes, is_renewable: bool = False
    ) -> Awaitable[Creation]:
        """Creates the channel unless the name is taken: of several callers on any nodes exactly one succeeds. With
        `is_renewable` a channel that exists gets this token in the place of its own, and keeps its subscribers."""

    def withdraw_channel(self, site: Site, channel: str, digest: bytes) -> Awaitable[None]:
        """Withdraws a channel whose `create_channel` failed, so that its existence was unknown. Idempotent."""

    def channel_digests(self, site: Site, channels: Sequence[str]) -> Awaitable[list[bytes | None]]:
        """The digests of these channels, in their order; None: there is no channel of that name."""

    def find_channel(self, site: Site, channel: str) -> Awaitable[ChannelDigests | None]:
        """The channel's digests; None: there is no channel of that name."""

    def list_channels(self, site: Site, cursor: int) -> Awaitable[ChannelsPart]:
        """The part of the channels at this cursor, 0 at first. A channel that exists all the time is in one part or in
        several."""

    def note_subscribers(self, site: Site, count: int, node: str | None = None) -> Awaitable[None]:
        """Notes how many subscribers the node has; None: this node. Idempotent."""

    def register_subscriber(self, site: Site, uuid: str, digest: bytes) -> Awaitable[Position]:
        """Keeps a resumable subscriber while its connection confirms it, and for `device_ttl` afterwards."""

    def resume_subscriber(self, site: Site, uuid: str, digest: bytes) -> Awaitable[Resumed | None]:
        """Takes a subscriber over from any connection that holds it; None: the
        uuid is unknown or the secret is wrong."""

    def keep_subscription(self, site: Site, claim: Claim, channel: str) -> Awaitable[Kept]:
        """Keeps a resumable subscriber's subscription to the channel as it is now;
        every later push is for the subscriber."""

    def drop_subscription(self, site: Site, claim: Claim, channel: str) -> Awaitable[None]:
        """Drops a subscription. Idempotent."""

    def confirm_positions(
        self, site: Site, positions: Sequence[Position], detail: bytes | None = None
    ) -> Awaitable[list[str]]:
        """Records the positions of these subscribers, and that they are connected. Answers the uuids that other
        connections have taken over, or that are forgotten. With `detail`, this node hears it as an audience does, after
        the site's last seq: it has then heard every message up to there."""

    def release_subscriber(self, site: Site, position: Position) -> Awaitable[list[str]]:
        """Records the end of the connection: the subscriber is kept for `device_ttl` from
        now. Answers like `confirm_positions`."""
