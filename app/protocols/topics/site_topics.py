"""The streams of one site on this node, and the one way in which a message reaches them."""

from collections import Counter
from collections.abc import Generator, Iterator

import msgspec
import structlog

from app.clock import now_ms
from app.config.settings import Site
from app.core.message import LiveMessage
from app.observe.counts import SiteCounts
from app.protocols.topics.figures import TopicsCounts
from app.protocols.topics.frames import Encoding, Event, event_of_server
from app.protocols.topics.index import TopicIndex
from app.protocols.topics.notice import Emitted, Notice, unpack
from app.protocols.topics.settings import Topics
from app.protocols.topics.stream import Stream
from app.protocols.topics.topic import CONNECTION_PREFIX, TopicRules

#: The store keeps a stream for this time after its deadline, for an /alive that arrives late.
GRACE_MS = 2_000
#: The bytes of an event that are decoded at the cost of one unit of `Slices`.
_BYTES_OF_UNIT = 200

_log = structlog.get_logger(__name__)


class SiteTopics:
    """The streams of one site on this node. Lives as long as the node."""

    def __init__(self, site: Site, counts: SiteCounts) -> None:
        self.site = site
        self.settings = site.require_section(Topics)
        self.counts = counts
        self.figures = counts.part(TopicsCounts)
        #: The live streams.
        self.index = self.new_index()
        #: The streams that are not live yet.
        self.joining: dict[Stream, None] = {}
        #: The number of all streams, by client.
        self.clients: Counter[str] = Counter()
        #: Whether no stream may begin, because the site is about to be served no more.
        self.is_ending = False

    def new_index(self) -> TopicIndex:
        """An index by the rules of the site."""
        return TopicIndex(hides_nothing=self.settings.reserved_under_hash)

    def __iter__(self) -> Iterator[Stream]:
        return iter([*self.joining, *self.index.streams.values()])


def rules_of(topics: SiteTopics, is_mounted: bool) -> TopicRules:
    """The rules by which a path of the site, perhaps one of es-web-notify, reads topics."""
    return TopicRules(is_mounted, topics.settings.reserved_under_hash)


def lifetime_ms(topics: SiteTopics) -> int:
    """The time that the store keeps a stream without extension."""
    return int(topics.settings.connection_timeout_seconds * 1000) + GRACE_MS


def own_index(topics: SiteTopics, stream: Stream) -> TopicIndex:
    """The subscriptions of this stream alone."""
    own = topics.new_index()
    own.add(stream)
    return own


def write_own(topics: SiteTopics, stream: Stream, type_: str, instances: int) -> None:
    """Tells a stream of its own begin or end, if it listens to its client."""
    if not stream.watches_itself:
        return
    event = event_of_server(type_, now_ms(), {"clid_instances": instances})
    own_index(topics, stream).write(event, [Emitted(CONNECTION_PREFIX + stream.client)], stream.wrote_at)


def message_steps(site: str, index: TopicIndex, message: LiveMessage, now: float) -> Generator[int, None, int]:
    """Writes an event to all matching streams, in steps; returns the number of writes. See `TopicIndex.writing`."""
    try:
        notice = notice_of(message)
        event: Event | None = message.encoded.get(Encoding)
        if event is None:
            event = message.encoded[Encoding] = Event.from_body(message.body, notice.at_ms, message.seq)
            yield len(message.body) // _BYTES_OF_UNIT
        return (yield from index.writing(event, notice.to, now))
    except msgspec.MsgspecError:
        # One unreadable event, whatever its source, must not stop the events behind it.
        _log.error("event is unreadable", site=site, message=message.id)
        return 0


def notice_of(message: LiveMessage) -> Notice:
    """The notice of a message, decoded once."""
    notice: Notice | None = message.encoded.get(Notice)
    if notice is None:
        notice = message.encoded[Notice] = unpack(message)
    return notice
