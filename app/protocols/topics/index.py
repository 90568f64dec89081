"""The subscriptions to topics on this node, and the one way to write an event to all matching streams."""

from collections.abc import Iterable, Iterator

from app.protocols.topics.frames import Encoding, Event, to_chunk
from app.protocols.topics.notice import Emitted
from app.protocols.topics.registry import EVERYBODY, is_among
from app.protocols.topics.requests import RequestedTopic
from app.protocols.topics.stream import Stream, Writing
from app.protocols.topics.topic import emitted_levels, is_pattern
from app.protocols.topics.trie import Trie


class Group:
    """The streams that have subscribed to one topic or pattern. Lives while it has streams."""

    __slots__ = ("binded", "plain", "topic")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        #: Grouped by encoding and framing, so that each form of an event is encoded once.
        self.plain: dict[Writing, dict[Stream, None]] = {}
        self.binded: dict[Writing, dict[Stream, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self.plain.values())) + sum(map(len, self.binded.values()))

    def recipients(self, emitted: Emitted) -> Iterator[tuple[Writing, Iterable[Stream]]]:
        """The streams that may get the emitted event, grouped by encoding and framing."""
        allowed = emitted.subscribers
        if allowed is None or EVERYBODY in allowed:
            yield from self.plain.items()
        if allowed is not None:
            for writing, streams in self.binded.items():
                yield writing, [stream for stream in streams if is_among(stream.user, allowed)]


class _Share:
    """Streams that get the same bytes of an event. Lives while these are written."""

    __slots__ = ("_emitted", "_requested", "_writing", "streams")

    def __init__(self, requested: str, emitted: str, writing: Writing, streams: list[Stream]) -> None:
        self._requested = requested
        self._emitted = emitted
        self._writing = writing
        self.streams = streams

    def write(self, event: Event, now: float, *, with_id: bool) -> None:
        """Writes the event to all of the streams."""
        encoding, is_chunked = self._writing
        data = event.encode(self._requested, self._emitted, encoding, with_id=with_id)
        frame = to_chunk(data) if is_chunked else data
        # The hot path: nothing else runs for each stream.
        for stream in self.streams:
            stream.wrote_at = now
            stream.write(frame)


class TopicIndex:
    """The subscriptions of a set of streams. Lives as long as its owner."""

    def __init__(self, *, hides_nothing: bool = False) -> None:
        """With `hides_nothing` a wildcard in the first place stands for reserved levels, too."""
        self.streams: dict[int, Stream] = {}
        self._exact: dict[str, Group] = {}
        # The exact topics a second time, for emitted wildcards; and the patterns, in which every event is looked up.
        self._exact_levels: Trie[Group] = Trie(hides_nothing=hides_nothing)
        self._patterns: Trie[Group] = Trie(hides_nothing=hides_nothing)
        self._groups_of_patterns: dict[str, Group] = {}

    def add(self, stream: Stream) -> None:
        """Adds a stream, which hears every event that matches its subscription."""
        self.streams[stream.number] = stream
        for wish in stream.caller.subscription.wishes:
            side = self._side(self._group(wish), wish, stream)
            side.setdefault(stream.writing, {})[stream] = None

    def remove(self, stream: Stream) -> None:
        """Removes a stream; without effect when it is not there."""
        if self.streams.pop(stream.number, None) is None:
            return
        for wish in stream.caller.subscription.wishes:
            groups, trie = self._home(wish)
            group = groups.get(wish.topic)
            side = self._side(group, wish, stream) if group is not None else {}
            if group is None or stream not in side.get(stream.writing, ()):
                continue  # Without a key the binded and the plain wish for a topic are one.
            del side[stream.writing][stream]
            if not side[stream.writing]:
                del side[stream.writing]
            if not group.plain and not group.binded:
                del groups[wish.topic]
                trie.remove(wish.levels)

    def counts(self) -> Iterator[tuple[str, int]]:
        """Each topic and pattern with the number of its streams."""
        for group in self.groups():
            yield group.topic, len(group)

    def groups(self) -> Iterator[Group]:
        """The groups of all topics and patterns."""
        yield from self._exact.values()
        yield from self._groups_of_patterns.values()

    def __len__(self) -> int:
        """The number of different topics and patterns."""
        return len(self._exact) + len(self._groups_of_patterns)

    def write(self, event: Event, to: Iterable[Emitted], now: float) -> int:
        """Writes an event to all matching streams, once for each of their matching
        topics; answers how many writes it made."""
        written = 0
        numbered: list[_Share] = []
        for emitted in to:
            for group in self._meeting(emitted.topic):
                for writing, streams in group.recipients(emitted):
                    chosen = self._meant(emitted, streams)
                    written += len(chosen)
                    share = _Share(group.topic, emitted.topic, writing, chosen)
                    if writing[0] is Encoding.SSE:
                        numbered.append(share)
                    elif chosen:
                        share.write(event, now, with_id=False)
        _write_numbered(numbered, event, now)
        return written

    def _meeting(self, topic: str) -> Iterator[Group]:
        levels = emitted_levels(topic)
        if is_pattern(levels):
            yield from self._exact_levels.matches(levels)
        elif group := self._exact.get(topic):
            yield group
        yield from self._patterns.matches(levels)

    def _meant(self, emitted: Emitted, streams: Iterable[Stream]) -> list[Stream]:
        if emitted.whisper is not None:
            stream = self.streams.get(emitted.whisper)
            return [stream] if stream is not None and stream in streams else []
        if emitted.origin is not None:
            return [stream for stream in streams if stream.number != emitted.origin]
        return list(streams)

    def _group(self, wish: RequestedTopic) -> Group:
        groups, trie = self._home(wish)
        group = groups.get(wish.topic)
        if group is None:
            group = groups[wish.topic] = Group(wish.topic)
            trie.add(wish.levels, group)
        return group

    def _home(self, wish: RequestedTopic) -> tuple[dict[str, Group], Trie[Group]]:
        if is_pattern(wish.levels):
            return self._groups_of_patterns, self._patterns
        return self._exact, self._exact_levels

    def _side(self, group: Group, wish: RequestedTopic, stream: Stream) -> dict[Writing, dict[Stream, None]]:
        # A binded subscription without a key gets what every subscription gets, as with the original.
        return group.binded if wish.is_binded and stream.user is not None else group.plain


def _write_numbered(shares: list[_Share], event: Event, now: float) -> None:
    """Writes one event to SSE streams. Only the last part for each stream has the id,
    after which a returning reader continues."""
    if len(shares) == 1 and shares[0].streams:
        shares[0].write(event, now, with_id=True)
        return
    last = {stream: share for share in shares for stream in share.streams}
    for share in shares:
        everyone = share.streams
        for with_id in (False, True):
            share.streams = [stream for stream in everyone if (last[stream] is share) is with_id]
            if share.streams:
                share.write(event, now, with_id=with_id)
