"""The rules of topics: levels, wildcards, bounds, and the topics of the server's own."""

from msgspec import Struct

from app.errors import BadRequest
from app.surrogates import encode_text

#: Far more than topics need. MQTT allows 65,535 bytes, but each level costs a node of the trie.
MAX_TOPIC_BYTES = 4_096
MAX_LEVELS = 128

ONE_LEVEL = "+"
ALL_LEVELS = "#"
SERVER_TOPIC = "@SERVER@"
CONNECTION_PREFIX = "@CONNECTION@/"
ANONYMOUS_CLIENT = "@ANON_CONNECTION@"
_ANY_CONNECTION = ("@CONNECTION@", ONE_LEVEL)

#: A `#` that is text stands so among levels: no topic holds U+0000.
_TEXT_HASH = "\0#"
_TEXT_PLUS = "\0+"

Levels = tuple[str, ...]


class TopicRules(Struct, frozen=True):
    """The rules by which a path reads topics."""

    #: es-web-notify knew no wrong topic: an empty one, a `#` before the end and a level such as `a+` are text.
    takes_text: bool = False
    #: `@CONNECTION@/+` is the topic of the client `+`, as with es-web-notify.
    has_text_plus: bool = False


#: The rules of MQTT.
STRICT = TopicRules()


def levels_of(topic: str, rules: TopicRules = STRICT) -> Levels:
    """The levels of a topic, or of a pattern of topics.

    Raises BadRequest for a topic over our bounds and, unless the rules take it as text, for one that MQTT 3.1.1 section
    4.7 forbids.
    """
    if not topic and not rules.takes_text:
        raise BadRequest("Topic is empty, expected at least one character.")
    if len(encode_text(topic)) > MAX_TOPIC_BYTES:
        raise BadRequest(f"Topic is too long, expected at most {MAX_TOPIC_BYTES} bytes.")
    if "\0" in topic:
        raise BadRequest("Topic holds U+0000, which no topic may.")
    levels = tuple(topic.split("/"))
    if len(levels) > MAX_LEVELS:
        raise BadRequest(f"Topic has {len(levels)} levels, expected at most {MAX_LEVELS}.")
    if not rules.takes_text:
        _check_wildcards(levels)
    if rules.has_text_plus and levels == _ANY_CONNECTION:
        return (levels[0], _TEXT_PLUS)
    return _with_text(levels)


def is_pattern(levels: Levels) -> bool:
    """Whether these are the levels of a pattern of topics."""
    return ONE_LEVEL in levels or ALL_LEVELS in levels


def has_wildcard(topic: str) -> bool:
    """Whether the topic is a pattern of topics; its levels are `emitted_levels`."""
    return (ONE_LEVEL in topic or ALL_LEVELS in topic) and is_pattern(emitted_levels(topic))


def emitted_levels(topic: str) -> Levels:
    """The levels of a topic that some path has accepted."""
    return _with_text(tuple(topic.split("/")))


def is_reserved(topic: str) -> bool:
    """Whether only the server may emit to this topic."""
    return topic.startswith("@")


def is_hidden(level: str) -> bool:
    """Whether wildcards do not match this first level: MQTT's `$` topics, and the server's own topics."""
    return level.startswith(("$", "@"))


def _with_text(levels: Levels) -> Levels:
    """The levels with each `#` before the end marked as text."""
    if ALL_LEVELS not in levels[:-1]:
        return levels
    return (*(_TEXT_HASH if level == ALL_LEVELS else level for level in levels[:-1]), levels[-1])


def _check_wildcards(levels: Levels) -> None:
    for index, level in enumerate(levels):
        if len(level) > 1 and (ONE_LEVEL in level or ALL_LEVELS in level):
            raise BadRequest("Topic: + and # must be a whole level.")
        if level == ALL_LEVELS and index != len(levels) - 1:
            raise BadRequest("Topic: # must be the last level.")
