"""The detail of an event between nodes: the topics it was emitted to, its time, and its permitted listeners."""

from collections.abc import Iterable

import msgspec
from msgspec import Raw, Struct

from app.clock import now_ms
from app.config.settings import HistoryLimit
from app.core.message import Audience, LiveMessage
from app.protocols.topics.topic import CONNECTION_PREFIX, Levels, has_wildcard, is_pattern, is_reserved

PROTOCOL = "topics"
#: The audience of every node, whether or not it has streams.
ALL_NODES = "n"
#: The audience of nodes with a subscription that holds wildcards.
ALL_PATTERNS = "w"
#: The same for wildcards after @CONNECTION@; no other pattern matches topics there. Without this audience every connect
#: and disconnect would go to all nodes with any pattern.
CONNECTION_PATTERNS = "wc"
_EXACT = "t:"


class Listeners:
    """The users who may listen to a binded event: a list of JSON, which may be long. Lives as long as its message; the
    names are decoded when a node asks for them, and once."""

    __slots__ = ("_names", "packed")

    def __init__(self, packed: bytes) -> None:
        self.packed = packed
        self._names: frozenset[str] | None = None

    @classmethod
    def of(cls, names: Iterable[str]) -> "Listeners":
        """These users."""
        return cls(msgspec.json.encode([*names]))

    @property
    def is_packed(self) -> bool:
        """Whether the names are not decoded yet."""
        return self._names is None

    @property
    def names(self) -> frozenset[str]:
        """The users' names."""
        if self._names is None:
            self._names = _names_decoder.decode(self.packed)
        return self._names


class Emitted(Struct, frozen=True):
    """One topic that an event was emitted to."""

    topic: str
    #: The only stream that gets the event; None: all streams.
    whisper: int | None = None
    #: For a binded event the users who may listen; None: the event is not binded.
    listeners: Listeners | None = None
    #: The stream that the event is about; this stream does not get the event.
    origin: int | None = None


class _PackedEmitted(Struct, array_like=True, frozen=True):
    """An `Emitted` between nodes."""

    topic: str
    whisper: int | None = None
    listeners: Raw = Raw(b"null")
    origin: int | None = None

    def unpacked(self) -> Emitted:
        packed = bytes(self.listeners)
        listeners = None if packed == b"null" else Listeners(packed)
        return Emitted(self.topic, self.whisper, listeners, self.origin)


class Question(Struct, frozen=True):
    """A question of one node to all nodes."""

    id: str
    #: "state", "memory", or "details", which is about one client; with "original " before it in es-web-notify's shapes.
    about: str
    client: str = ""


class Notice(Struct, frozen=True):
    """The detail of an audience of topics."""

    at_ms: int
    to: list[Emitted]
    question: Question | None = None


class _PackedNotice(Struct, frozen=True, omit_defaults=True):
    """A `Notice` between nodes."""

    #: 0, with an empty `to`, for a message sent to a room: then the names of the audience give the topics.
    at_ms: int = 0
    to: list[_PackedEmitted] = []
    question: Question | None = None


_decoder = msgspec.json.Decoder(_PackedNotice)
_names_decoder = msgspec.json.Decoder(frozenset[str])


def exact_name(topic: str) -> str:
    """The audience of nodes with a subscription to exactly this topic."""
    return _EXACT + topic


def is_bindable(name: str) -> bool:
    """Whether a name in the site's `binds` can be a topic that acts as one with a room."""
    return not is_reserved(name) and not has_wildcard(name)


def names_joined(topic: str, levels: Levels, *, hides_nothing: bool = False) -> list[str]:
    """The audiences that a node joins for this subscription."""
    if not is_pattern(levels):
        return [exact_name(topic)]
    if hides_nothing and is_pattern(levels[:1]):
        return [ALL_PATTERNS, CONNECTION_PATTERNS]
    return [_patterns_for(topic)]


def audience(to: list[Emitted], history: HistoryLimit | None, bound_names: list[str] | None = None) -> Audience:
    """The audience of all nodes that may have listeners for an event emitted now to these topics."""
    topics = [emitted.topic for emitted in to]
    exact = [*dict.fromkeys(map(exact_name, topics)), *dict.fromkeys(map(_patterns_for, topics))]
    names = [ALL_NODES] if any(map(has_wildcard, topics)) else exact
    detail = msgspec.json.encode(_PackedNotice(now_ms(), [_packed(emitted) for emitted in to]))
    return Audience(PROTOCOL, names, detail, history, bound_names or [])


def audience_of_room(topic: str, history: HistoryLimit) -> Audience:
    """The audience of all nodes that may have listeners for a message to the room that this topic is bound to.

    Its detail is empty, so that the audiences of several topics bound to one room are equal.
    """
    return Audience(PROTOCOL, [exact_name(topic), ALL_PATTERNS], msgspec.json.encode(_PackedNotice()), history, [topic])


def question_to_all(question: Question) -> Audience:
    """The audience of every node, with this question."""
    return Audience(PROTOCOL, [ALL_NODES], msgspec.json.encode(_PackedNotice(now_ms(), [], question)))


def unpack(message: LiveMessage) -> Notice:
    """Decodes the detail of a message, without the names of listeners."""
    whom = message.audience
    assert whom is not None, "topics hear of audiences alone"
    packed = _decoder.decode(whom.detail)
    if packed.at_ms:
        return Notice(packed.at_ms, [emitted.unpacked() for emitted in packed.to], packed.question)
    topics = [name.removeprefix(_EXACT) for name in whom.names if name.startswith(_EXACT)]
    return Notice(message.at_ms or now_ms(), [Emitted(topic) for topic in topics])


def _packed(emitted: Emitted) -> _PackedEmitted:
    listeners = Raw(b"null" if emitted.listeners is None else emitted.listeners.packed)
    return _PackedEmitted(emitted.topic, emitted.whisper, listeners, emitted.origin)


def _patterns_for(topic: str) -> str:
    return CONNECTION_PATTERNS if topic.startswith(CONNECTION_PREFIX) else ALL_PATTERNS
