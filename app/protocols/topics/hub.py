"""The streams of this node: their begin, their end, and the delivery of messages from the bus to them.

Knows no HTTP: the opener of a stream hands in the response to write to.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import structlog

from app.clock import now_ms
from app.config.settings import Site
from app.core.delivery import Delivery
from app.core.draining import close_in_steps, leave_seconds
from app.core.live import LiveConnection, row_of
from app.core.message import Audience, LiveMessage
from app.digests import digest
from app.errors import StoreUnavailable
from app.ids import FlakeIds
from app.observe.counts import Counts
from app.protocols.topics.frames import RESYNC, event_of_server
from app.protocols.topics.index import TopicIndex
from app.protocols.topics.notice import (
    ALL_NODES,
    PROTOCOL,
    Question,
    audience_of_room,
    is_bindable,
)
from app.protocols.topics.presence import ClientPresence
from app.protocols.topics.settings import Topics
from app.protocols.topics.site_topics import (
    GRACE_MS,
    SiteTopics,
    lifetime_ms,
    message_steps,
    notice_of,
    own_index,
    write_own,
)
from app.protocols.topics.slices import Slices, Steps
from app.protocols.topics.stream import Caller, Stream
from app.protocols.topics.topic import CONNECTION_PREFIX, SERVER_TOPIC
from app.protocols.topics.topic_store import TopicStore
from app.transport.deadline_wheel import DeadlineWheel
from app.transport.streaming import StreamingResponse

#: The largest delay of a keep-alive or of a stream's end.
_TICK_SECONDS = 0.25
_HISTORY_MESSAGES = 500
#: The sites that are joined at a time at the start.
_SITES_AT_ONCE = 64
#: A stream whose end needs an answer from Redis asks again after this time: an outage of Redis ends no stream.
_ASK_AGAIN_SECONDS = 1.0
#: The cost of a `_resync`, in the units of `Slices`.
_UNITS_OF_RESYNC = 15

_log = structlog.get_logger(__name__)


class TopicHub:
    """The streams of all sites on this node. Lives as long as the node: `start` begins, `close` ends it.

    Implements AudienceListener for messages from the bus, and Keeper for its streams.
    """

    def __init__(
        self, sites: Iterable[Site], delivery: Delivery, store: TopicStore, ids: FlakeIds, counts: Counts
    ) -> None:
        self.sites = {site.name: SiteTopics(site, counts.of(site.name)) for site in sites if site.section(Topics)}
        #: Called with each question to all nodes, from another node or from this one.
        self.on_question: Callable[[SiteTopics, Question], None] = lambda topics, question: None
        #: Called when a stream has ended: the caller's seat and the levels of its topics are free.
        self.on_caller_gone: Callable[[Caller], None] = lambda caller: None
        self._store = store
        self._counts = counts
        clients = [(topics.site, topics.clients) for topics in self.sites.values()]
        self._presence = ClientPresence(clients, delivery.publish, store, ids, delivery.new_errands())
        delivery.on_interrupted.append(self._presence.restore)
        self._errands = delivery.new_errands()
        self._audiences = delivery.audiences(PROTOCOL, self)
        self._wheel = DeadlineWheel(_TICK_SECONDS)
        #: All writing of events, but for the server's own to one stream.
        self.slices = Slices(self._events_lost, counts.faults)
        self._audiences.before_page = lambda site: self.slices.written(site.name)
        self._is_draining = False

    async def start(self) -> None:
        """Begins to listen to the questions to all nodes. Raises StoreUnavailable when Redis is away."""
        sites = [topics.site for topics in self.sites.values()]
        for start in range(0, len(sites), _SITES_AT_ONCE):
            part = sites[start : start + _SITES_AT_ONCE]
            await asyncio.gather(*(self._audiences.join(site, [ALL_NODES]) for site in part))

    def add(self, site: Site) -> None:
        """Takes streams of one more site. The node listens to its questions to all nodes when Redis has been told."""
        topics = self.sites[site.name] = SiteTopics(site, self._counts.of(site.name))
        self._presence.add(site, topics.clients)
        join = partial(self._audiences.join, site, [ALL_NODES])
        self._errands.start(self._errands.until_stored(join, site.name))

    async def remove(self, site: str, reason: str) -> None:
        """Ends the streams of a site, and serves it no more."""
        topics = self.sites.get(site)
        if topics is None:
            return
        topics.is_ending = True
        told: set[Stream] = set()

        def end(stream: Stream) -> None:
            told.add(stream)
            stream.end(reason)

        streams = len(list(topics))
        await close_in_steps(lambda: [one for one in topics if one not in told], end, leave_seconds(streams))
        self._audiences.leave(topics.site, [ALL_NODES])
        self._presence.remove(site)

    async def close(self) -> None:
        """Ends the presence of clients. All streams have been drained before."""
        await self._presence.close()

    async def bury(self, site: Site, node: str) -> None:
        """Takes out the streams of a dead node in a site. Raises StoreUnavailable. See `Node.burials`."""
        await self._presence.bury(site, node)

    async def drain(self, seconds: float) -> None:
        """Ends every stream, spread over this time, so that clients do not reconnect all at once."""
        self._is_draining = True
        told: set[Stream] = set()

        def those_left() -> list[Stream]:
            return [stream for topics in self.sites.values() for stream in topics if stream not in told]

        def end(stream: Stream) -> None:
            told.add(stream)
            stream.end("server stopped")

        await close_in_steps(those_left, end, seconds)

    async def drained(self) -> None:
        """Waits until the ends of streams have reached Redis."""
        await self._errands.drain()
        await self._presence.drained()

    def live(self, site: str) -> Iterator[LiveConnection]:
        """The open streams of a site; see `LiveLister`."""
        topics = self.sites.get(site)
        return iter(() if topics is None else topics)

    # The life of a stream

    async def join(self, topics: SiteTopics, caller: Caller) -> tuple[Stream, str]:
        """A new stream and its secret. From now on the stream holds every message of its topics; `begin` writes them.

        Raises StoreUnavailable; then nothing is left behind. Otherwise `stream_ended` reports the stream's end.
        """
        if self._is_draining:
            self.on_caller_gone(caller)
            raise StoreUnavailable("the server stops")
        stream = Stream(self, caller, topics.site)
        secret = secrets.token_urlsafe(24)
        topics.clients[stream.client] += 1
        topics.figures.streams += 1
        topics.joining[stream] = None
        self._presence.opening(topics.site)
        try:
            await self._audiences.join(topics.site, stream.names)
        except BaseException:
            self._forget(topics, stream, has_joined=False)
            raise
        try:
            opened = await self._store.open(
                topics.site, stream.client, topics.clients[stream.client], digest(secret), lifetime_ms(topics)
            )
        except BaseException:
            self._forget(topics, stream, has_joined=True)
            raise
        stream.number, stream.instances = opened.number, opened.instances
        if opened.is_watched:
            self._presence.opened(topics.site, stream.client, stream.number, opened.instances)
        return stream, secret

    async def begin(self, stream: Stream, secret: str, response: StreamingResponse, after_seq: int | None) -> None:
        """Writes the greeting, then the history behind `after_seq` if it is given, then live events.

        Raises StoreError; then the caller has to end the stream.
        """
        topics = self.sites[stream.site.name]
        now = asyncio.get_running_loop().time()
        timeout_seconds = topics.settings.connection_timeout_seconds
        stream.answer_with(response)
        if self._counts.records.is_kept:
            stream.facts = stream.caller.facts_of(now_ms())
        stream.ends_at = now + timeout_seconds
        if stream.caller.is_original:
            write_own(topics, stream, "connect", stream.instances)
        detail = {"connid": stream.number, "secret": secret, "timeout": int(timeout_seconds * 1000)}
        stream.write_event(event_of_server("connected", now_ms(), detail), SERVER_TOPIC)
        stream.wrote_at = now
        self._schedule(stream)
        await self._write_available(stream)
        if after_seq is not None:
            await self._write_history(stream, after_seq)
        await self._go_live(topics, stream, reads_history=after_seq is not None)

    def give_up(self, stream: Stream, reason: str) -> None:
        """Ends a stream that has joined but has no response, or whose response cannot go on."""
        if not stream.end(reason):
            stream.stream_ended(reason)

    def stream_over(self, stream: Stream, reason: str) -> None:
        """The response of a stream has ended. Called by the stream."""
        self._wheel.cancel(stream)
        topics = self.sites[stream.site.name]
        topics.index.remove(stream)
        self._forget(topics, stream, has_joined=True)
        topics.figures.stream_ends[reason] += 1
        if stream.facts is not None:
            row = row_of(PROTOCOL, stream.facts, stream.measured or stream.measures(), reason)
            self._counts.records.add("connections", stream.site.name, row)
        _log.info("stream ended", site=stream.site.name, connection=stream.number, reason=reason)

    def stream_due(self, stream: Stream, now: float) -> None:
        """A keep-alive or the end of a stream is due. Called by the deadline wheel."""
        if now >= stream.ends_at:
            self._errands.start(self._end_unless_extended(stream))
            return
        keep_alive_seconds = self.sites[stream.site.name].settings.keep_alive_seconds
        if now >= stream.wrote_at + keep_alive_seconds:
            stream.write_keep_alive(now)
        self._schedule(stream)

    def _schedule(self, stream: Stream) -> None:
        keep_alive_seconds = self.sites[stream.site.name].settings.keep_alive_seconds
        if not stream.is_over:
            self._wheel.schedule(stream, min(stream.ends_at, stream.wrote_at + keep_alive_seconds))

    async def _end_unless_extended(self, stream: Stream) -> None:
        try:
            remaining_ms = await self._store.remaining_ms(stream.site, stream.number) - GRACE_MS
        except StoreUnavailable:
            remaining_ms = int(_ASK_AGAIN_SECONDS * 1000)
        if remaining_ms <= 0:
            if stream.caller.is_original and stream.watches_itself:
                await self._write_own_end(stream)
            stream.end("timeout")
        else:
            stream.ends_at = asyncio.get_running_loop().time() + remaining_ms / 1000
            self._schedule(stream)

    async def _write_own_end(self, stream: Stream) -> None:
        """As with es-web-notify, a stream that watches its own client is told of its end, when that is its time-out."""
        try:
            instances = await self._store.instances(stream.site, stream.client)
        except StoreUnavailable:
            return
        write_own(self.sites[stream.site.name], stream, "disconnect", max(0, instances - 1))

    def _forget(self, topics: SiteTopics, stream: Stream, *, has_joined: bool) -> None:
        stream.is_over = True
        stream.held = None
        topics.joining.pop(stream, None)
        topics.figures.streams -= 1
        topics.clients[stream.client] -= 1
        if not topics.clients[stream.client]:
            del topics.clients[stream.client]
        if has_joined:
            self._audiences.leave(topics.site, stream.names)
        self.on_caller_gone(stream.caller)
        self._presence.ended(topics.site, stream.client, stream.number)

    # Writing to a stream before it is live

    async def _write_available(self, stream: Stream) -> None:
        watched = stream.watched()
        asked = [self._store.instances(stream.site, client) for client in watched]
        for client, instances in zip(watched, await asyncio.gather(*asked), strict=True):
            detail = {"clid_instances": str(instances) if stream.caller.is_original else instances}
            stream.write_event(event_of_server("available", now_ms(), detail), CONNECTION_PREFIX + client)

    async def _write_history(self, stream: Stream, after_seq: int) -> None:
        """Writes the history behind a seq. If messages are missing before a page, `_resync` is written before it."""
        own = own_index(self.sites[stream.site.name], stream)
        has_more = True
        # On the wire a body may be several times as long: it is escaped, and repeated for each topic that it matches.
        max_bytes = max(1, stream.site.outbox_limit_bytes // 8)
        while has_more and stream.held is not None:
            # A message that arrives during the read is either in this page or has a higher seq: buffer it.
            stream.held.restart()
            history = await self._audiences.history(stream.site, after_seq, _HISTORY_MESSAGES, max_bytes)
            if not history.is_complete or after_seq > history.last_seq:
                self.write_resync(stream)
            after_seq = await self._write_page(stream, own, history.messages, after_seq)
            has_more = history.has_more
            if has_more:
                await stream.drained()
            elif stream.held is not None and stream.held.has_gap:
                has_more, after_seq = True, history.last_seq
        if not stream.is_over:
            stream.last_seq = history.last_seq

    async def _write_page(
        self, stream: Stream, own: TopicIndex, messages: Sequence[LiveMessage], after_seq: int
    ) -> int:
        """Writes messages behind a seq, and answers the last one. Others have their turn in between: a message may be
        written hundreds of times, once for each topic that it matches."""
        now = asyncio.get_running_loop().time()
        for message in messages:
            if message.seq > after_seq and stream.held is not None:
                await self.slices.finish(stream.site.name, self._write_past(stream, own, message, now))
                after_seq = message.seq
                await stream.drained()
        return after_seq

    def _write_past(self, stream: Stream, own: TopicIndex, message: LiveMessage, now: float) -> Steps:
        yield from message_steps(stream.site.name, own, message, now)

    async def _go_live(self, topics: SiteTopics, stream: Stream, *, reads_history: bool) -> None:
        """Writes what was held, and what comes meanwhile, until nothing is left. Then the stream hears the live events
        behind those that wait for their turn: it has held and written these."""
        while stream.held is not None:
            if stream.held.has_gap and reads_history:
                await self._write_history(stream, stream.last_seq)
            elif not stream.held.has_gap and (messages := stream.held.release(stream.last_seq)):
                own = own_index(topics, stream)
                stream.last_seq = await self._write_page(stream, own, messages, stream.last_seq)
            else:
                # If it has asked for no history, the missing messages cannot be read from there.
                has_gap, stream.held = stream.held.has_gap, None
                self.slices.follow(topics.site.name, self._enter(topics, stream, has_gap=has_gap))

    def _enter(self, topics: SiteTopics, stream: Stream, *, has_gap: bool) -> Steps:
        if stream.is_over:
            return
        del topics.joining[stream]
        topics.index.add(stream)
        stream.note_live()
        if has_gap:
            self.write_resync(stream)
        yield len(stream.names)

    def write_resync(self, stream: Stream) -> None:
        """Tells a client that it has missed messages: `_resync` in SSE, the same from @SERVER@ in frames."""
        stream.write_event(event_of_server(RESYNC, now_ms()), SERVER_TOPIC)
        self.sites[stream.site.name].counts.resyncs["topics"] += 1

    # Messages from the bus

    def published(self, site: Site, message: LiveMessage) -> None:
        """Delivers an event, or passes on a question. Called by the audiences."""
        topics = self.sites[site.name]
        notice = notice_of(message)
        if notice.question is not None:
            self.on_question(topics, notice.question)
            return
        for stream in topics.joining:
            stream.hold(message)
        size = len(message.body) + (len(message.audience.detail) if message.audience else 0)
        self.slices.write(site.name, self._deliver(topics, message), size)

    def missed(self, site: Site) -> None:
        """Messages are lost for good. Called by the audiences."""
        self._events_lost(site.name)
        for stream in self.sites[site.name].joining:
            stream.miss()

    def _deliver(self, topics: SiteTopics, message: LiveMessage) -> Steps:
        written = yield from message_steps(topics.site.name, topics.index, message, asyncio.get_running_loop().time())
        topics.figures.deliveries += written

    def _events_lost(self, site: str) -> None:
        self.slices.follow(site, self._resync_all(self.sites[site]))

    def _resync_all(self, topics: SiteTopics) -> Steps:
        for stream in list(topics.index.streams.values()):
            self.write_resync(stream)
            yield _UNITS_OF_RESYNC

    def audience_of(self, site: Site, name: str) -> Audience | None:
        """The listeners to the topic of this name. Called by the core."""
        if site.name not in self.sites or not is_bindable(name):
            return None
        return audience_of_room(name, self.sites[site.name].settings.history)
