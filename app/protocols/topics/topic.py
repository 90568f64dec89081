"""The rules of topics: levels, wildcards, bounds, and the topics of the server's own."""

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

Levels = tuple[str, ...]


def levels_of(topic: str) -> Levels:
    """The levels of a topic, or of a pattern of topics.

    Raises BadRequest for a topic that MQTT 3.1.1 section 4.7 forbids, and for one over our bounds.
    """
    if not topic:
        raise BadRequest("Topic is empty, expected at least one character.")
    if len(encode_text(topic)) > MAX_TOPIC_BYTES:
        raise BadRequest(f"Topic is too long, expected at most {MAX_TOPIC_BYTES} bytes.")
    if "\0" in topic:
        raise BadRequest("Topic holds U+0000, which no topic may.")
    levels = tuple(topic.split("/"))
    if len(levels) > MAX_LEVELS:
        raise BadRequest(f"Topic has {len(levels)} levels, expected at most {MAX_LEVELS}.")
    if has_wildcard(topic):
        _check_wildcards(levels)
    return levels


def has_wildcard(topic: str) -> bool:
    """Whether the topic is a pattern of topics."""
    return ONE_LEVEL in topic or ALL_LEVELS in topic


def is_reserved(topic: str) -> bool:
    """Whether only the server may emit to this topic."""
    return topic.startswith("@")


def is_hidden(level: str) -> bool:
    """Whether wildcards do not match this first level: MQTT's `$` topics, and the server's own topics."""
    return level.startswith(("$", "@"))


def _check_wildcards(levels: Levels) -> None:
    for index, level in enumerate(levels):
        if len(level) > 1 and has_wildcard(level):
            raise BadRequest("Topic: + and # must be a whole level.")
        if level == ALL_LEVELS and index != len(levels) - 1:
            raise BadRequest("Topic: # must be the last level.")
