"""The subscriptions to topics on this node, and the one way to write an event to all matching streams."""

from collections.abc import Container, Generator, Iterator, Sequence
from typing import TypeAlias

from app.protocols.topics.frames import Encoding, Event, to_chunk
from app.protocols.topics.notice import Emitted
from app.protocols.topics.registry import EVERYBODY, is_among
from app.protocols.topics.requests import RequestedTopic
from app.protocols.topics.stream import Stream, Writing
from app.protocols.topics.topic import emitted_levels, has_wildcard, is_pattern
from app.protocols.topics.trie import Trie

#: The streams that an event is written to in one step.
_STREAMS_A_STEP = 128
# The cost of a step, in the units of `Slices`: a write, and a frame with so many bytes for one more unit.
_UNITS_TO_WRITE = 1
_UNITS_TO_ENCODE = 4
_BYTES_OF_UNIT = 500
# So many names of listeners are decoded at the cost of one unit.
_NAMES_OF_UNIT = 15

#: Streams with one encoding and framing; None: all of them may get the event.
_Recipients: TypeAlias = tuple[Writing, dict[Stream, None], frozenset[str] | None]


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

    def recipients(self, emitted: Emitted) -> list[_Recipients]:
        """The streams that may get the emitted event, grouped by encoding and framing; where not all of a group may,
        with the users who may."""
        if emitted.listeners is None:
            return [(writing, streams, None) for writing, streams in self.plain.items()]
        allowed = emitted.listeners.names
        everybody: list[_Recipients] = []
        if EVERYBODY in allowed:
            everybody = [(writing, streams, None) for writing, streams in self.plain.items()]
        return everybody + [(writing, streams, allowed) for writing, streams in self.binded.items()]


class _Share:
    """One event as the streams of a group get it. Lives while it is written."""

    __slots__ = ("_emitted", "_event", "_frames", "_requested", "_writing", "streams")

    def __init__(self, event: Event, requested: str, emitted: str, writing: Writing) -> None:
        self._event = event
        self._requested = requested
        self._emitted = emitted
        self._writing = writing
        #: Encoded once, without and with an id.
        self._frames: list[bytes | None] = [None, None]
        #: The streams that get it when all shares are known.
        self.streams: list[Stream] = []

    def write(self, streams: Sequence[Stream], now: float, *, with_id: bool) -> int:
        """Writes the event to streams; answers the cost."""
        if not streams:
            return 0
        frame, cost = self._frames[with_id], 0
        if frame is None:
            frame = self._frames[with_id] = self._encode(with_id)
            cost = _UNITS_TO_ENCODE + len(frame) // _BYTES_OF_UNIT
        # The hot path: nothing else runs for each stream.
        for stream in streams:
            stream.wrote_at = now
            stream.messages += 1
            stream.write(frame)
        return cost + _UNITS_TO_WRITE * len(streams)

    def _encode(self, with_id: bool) -> bytes:
        encoding, is_chunked = self._writing
        data = self._event.encode(self._requested, self._emitted, encoding, with_id=with_id)
        return to_chunk(data) if is_chunked else data


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

    def write(self, event: Event, to: Sequence[Emitted], now: float) -> int:
        """Writes an event to all matching streams at once, once for each of their matching
        topics; answers how many writes it made."""
        writing = self.writing(event, to, now)
        while True:
            try:
                next(writing)
            except StopIteration as end:
                return int(end.value)

    def writing(self, event: Event, to: Sequence[Emitted], now: float) -> Generator[int, None, int]:
        """Does the same in steps, and yields the cost of each; see `Slices`. Streams may be removed between two steps,
        none may be added."""
        written = 0
        numbered: list[_Share] = []
        for meeting in self._meetings(to):
            if isinstance(meeting, int):
                yield meeting
                continue
            emitted, group = meeting
            if emitted.listeners is not None and emitted.listeners.is_packed:
                yield len(emitted.listeners.names) // _NAMES_OF_UNIT
            for writing, streams, allowed in group.recipients(emitted):
                share = _Share(event, group.topic, emitted.topic, writing)
                for part in _parts([*streams] if emitted.whisper is None else self._whispered(emitted, streams)):
                    chosen = _meant(emitted, part, allowed)
                    written += len(chosen)
                    if writing[0] is Encoding.SSE:
                        share.streams += chosen
                        yield len(part)
                    else:
                        yield share.write(chosen, now, with_id=False) + len(part) - len(chosen)
                if share.streams:
                    numbered.append(share)
        yield from _write_numbered(numbered, now)
        return written

    def _meetings(self, to: Sequence[Emitted]) -> Iterator[tuple[Emitted, Group] | int]:
        """Each topic of an event with the groups that it reaches; a number is the cost of the search so far."""
        wild = [emitted for emitted in to if has_wildcard(emitted.topic)]
        yield len(to)
        for emitted in to:
            if not wild or not has_wildcard(emitted.topic):
                if group := self._exact.get(emitted.topic):
                    yield emitted, group
                if self._groups_of_patterns:
                    yield from _meet(self._patterns, emitted)
            elif emitted is wild[0]:
                yield from _walk(self._exact_levels, wild)
                yield from _walk(self._patterns, wild)

    def _whispered(self, emitted: Emitted, streams: Container[Stream]) -> list[Stream]:
        stream = self.streams.get(emitted.whisper or 0)
        return [stream] if stream is not None and stream in streams else []

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


def _meet(trie: Trie[Group], emitted: Emitted) -> Iterator[tuple[Emitted, Group] | int]:
    levels = emitted_levels(emitted.topic)
    yield len(levels)
    for found in trie.meet(levels):
        yield found if isinstance(found, int) else (emitted, found)


def _walk(trie: Trie[Group], emissions: Sequence[Emitted]) -> Iterator[tuple[Emitted, Group] | int]:
    levels = [emitted_levels(emitted.topic) for emitted in emissions]
    yield sum(map(len, levels))
    for found in trie.walk(levels):
        if isinstance(found, int):
            yield found
        else:
            group, places = found
            for place in places:
                yield emissions[place], group


def _parts(streams: list[Stream]) -> list[list[Stream]]:
    if len(streams) <= _STREAMS_A_STEP:
        return [streams]
    return [streams[start : start + _STREAMS_A_STEP] for start in range(0, len(streams), _STREAMS_A_STEP)]


def _meant(emitted: Emitted, streams: list[Stream], allowed: frozenset[str] | None) -> list[Stream]:
    if allowed is not None:
        streams = [stream for stream in streams if is_among(stream.user, allowed)]
    if emitted.origin is not None:
        streams = [stream for stream in streams if stream.number != emitted.origin]
    return streams


def _write_numbered(shares: list[_Share], now: float) -> Iterator[int]:
    """Writes one event to SSE streams. Only the last part for each stream has the id,
    after which a returning reader continues."""
    if len(shares) == 1:
        for part in _parts(shares[0].streams):
            yield shares[0].write(part, now, with_id=True)
        return
    last: dict[Stream, _Share] = {}
    for share in shares:
        for part in _parts(share.streams):
            last.update(dict.fromkeys(part, share))
            yield len(part)
    for share in shares:
        for with_id in (False, True):
            for part in _parts(share.streams):
                chosen = [stream for stream in part if (last[stream] is share) is with_id]
                yield share.write(chosen, now, with_id=with_id) + len(part)
