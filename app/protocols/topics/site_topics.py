"""The streams of one site on this node, and the one way in which a message reaches them."""

from collections import Counter
from collections.abc import Iterator

from app.config.settings import Site
from app.core.message import LiveMessage
from app.observe.counts import SiteCounts
from app.protocols.topics.figures import TopicsCounts
from app.protocols.topics.frames import Encoding, Event
from app.protocols.topics.index import TopicIndex
from app.protocols.topics.notice import Notice, unpack
from app.protocols.topics.settings import Topics
from app.protocols.topics.stream import Stream

#: The store keeps a stream for this time after its deadline, for an /alive that arrives late.
GRACE_MS = 2_000


class SiteTopics:
    """The streams of one site on this node. Lives as long as the node."""

    def __init__(self, site: Site, counts: SiteCounts) -> None:
        self.site = site
        self.settings = site.require_section(Topics)
        self.counts = counts
        self.figures = counts.part(TopicsCounts)
        #: The live streams.
        self.index = TopicIndex()
        #: The streams that are not live yet.
        self.joining: dict[Stream, None] = {}
        #: The number of all streams, by client.
        self.clients: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Stream]:
        return iter([*self.joining, *self.index.streams.values()])


def lifetime_ms(topics: SiteTopics) -> int:
    """The time that the store keeps a stream without extension."""
    return int(topics.settings.connection_timeout_seconds * 1000) + GRACE_MS


def write_message(index: TopicIndex, message: LiveMessage, now: float) -> int:
    """Writes an event to all matching streams; returns the number of writes."""
    notice = notice_of(message)
    event: Event | None = message.encoded.get(Encoding)
    if event is None:
        event = message.encoded[Encoding] = Event.from_body(message.body, notice.at_ms, message.seq)
    return index.write(event, notice.to, now)


def notice_of(message: LiveMessage) -> Notice:
    """The notice of a message, decoded once."""
    notice: Notice | None = message.encoded.get(Notice)
    if notice is None:
        notice = message.encoded[Notice] = unpack(message)
    return notice
