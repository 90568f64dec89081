"""What travels between nodes beside an event: which topics it was emitted to, when, and who may have it."""

import msgspec
from msgspec import Struct

from app.clock import now_ms
from app.config.settings import HistoryLimit
from app.core.message import Audience, LiveMessage
from app.protocols.topics.topic import CONNECTION_PREFIX, has_wildcard, is_reserved

PROTOCOL = "topics"
#: The audience of every node, whether or not it has streams.
ALL_NODES = "n"
#: The audience of nodes with a subscription that holds wildcards.
ALL_PATTERNS = "w"
#: The same of wildcards behind @CONNECTION@, which alone can meet its topics: else every coming and going would be told
#: to whoever listens to any pattern.
CONNECTION_PATTERNS = "wc"
_EXACT = "t:"


class Emitted(Struct, array_like=True, frozen=True):
    """One topic that an event was emitted to."""

    topic: str
    #: The one stream that is meant; None: all.
    whisper: int | None = None
    #: Of a binded event: who may listen. None: it is not binded.
    subscribers: frozenset[str] | None = None
    #: The stream that the event is about, which does not hear of it.
    origin: int | None = None


class Question(Struct, frozen=True):
    """What one node asks all."""

    id: str
    #: "state", "memory", or "details" of one client.
    about: str
    client: str = ""


class Notice(Struct, frozen=True, omit_defaults=True):
    """The detail of an audience of topics."""

    #: 0 and nothing for what came of a room: then the names of the audience say the topics.
    at_ms: int = 0
    to: list[Emitted] = []
    question: Question | None = None


_decoder = msgspec.json.Decoder(Notice)


def exact_name(topic: str) -> str:
    """The audience of nodes with a subscription to just this topic."""
    return _EXACT + topic


def is_bindable(name: str) -> bool:
    """Whether a name of the site's `binds` can be a topic that is the same as a room."""
    return not is_reserved(name) and not has_wildcard(name)


def names_joined(topic: str) -> str:
    """The audience that a node with this subscription joins."""
    return _patterns_for(topic) if has_wildcard(topic) else exact_name(topic)


def audience(to: list[Emitted], history: HistoryLimit | None, bound_names: list[str] | None = None) -> Audience:
    """Whoever may hear what is emitted now to these topics."""
    topics = [emitted.topic for emitted in to]
    exact = [*dict.fromkeys(map(exact_name, topics)), *dict.fromkeys(map(_patterns_for, topics))]
    names = [ALL_NODES] if any(map(has_wildcard, topics)) else exact
    detail = msgspec.json.encode(Notice(now_ms(), to))
    return Audience(PROTOCOL, names, detail, history, bound_names or [])


def audience_of_room(topic: str, history: HistoryLimit) -> Audience:
    """Whoever may hear what is sent to the room that this topic is bound to.

    Nothing is said of it, so that the audiences of several topics bound to one room are one.
    """
    return Audience(PROTOCOL, [exact_name(topic), ALL_PATTERNS], msgspec.json.encode(Notice()), history, [topic])


def question_to_all(question: Question) -> Audience:
    """Every node."""
    return Audience(PROTOCOL, [ALL_NODES], msgspec.json.encode(Notice(now_ms(), [], question)))


def unpack(message: LiveMessage) -> Notice:
    """What travels with a message."""
    whom = message.audience
    assert whom is not None, "topics hear of audiences alone"
    notice = _decoder.decode(whom.detail)
    if notice.at_ms:
        return notice
    topics = [name.removeprefix(_EXACT) for name in whom.names if name.startswith(_EXACT)]
    return Notice(message.at_ms or now_ms(), [Emitted(topic) for topic in topics])


def _patterns_for(topic: str) -> str:
    return CONNECTION_PATTERNS if topic.startswith(CONNECTION_PREFIX) else ALL_PATTERNS
