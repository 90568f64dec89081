"""The section `channels:` of a site."""

from typing import Annotated, Literal

from msgspec import Struct

from app.config.section import Amount, Section, SectionSpec
from app.config.wording import matching

Acks = Literal["original", "readme"]


class Channels(Struct, frozen=True, kw_only=True):
    """A site's settings for its channels."""

    #: Whether anybody may create a channel; otherwise a creator needs the site's API key.
    open_create: bool = False
    #: Whether a creator with the site's API key gets a fresh token for a channel that exists, instead of a conflict.
    recreate: bool = False
    #: The `message` of acks: as WS-PushServer sends it, or `Connected` in each, as its README says.
    acks: Acks = "original"
    #: How many pushes a subscriber that resumes can get; their age is bounded by the site's device_ttl.
    history_messages: int = 1_000
    #: How many channels a site may have: with open_create any client could fill Redis with channels.
    max_channels: int = 100_000


class ChannelsKeys(Section):
    """`channels:`"""

    open_create: bool | None = None
    recreate: bool | None = None
    acks: Annotated[str, matching(r"^(original|readme)\Z", "original or readme")] | None = None
    history_messages: Amount | None = None
    max_channels: Amount | None = None


SECTION = SectionSpec("channels", ChannelsKeys, Channels, is_bindable=True)
