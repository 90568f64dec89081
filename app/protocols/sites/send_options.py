"""Reads the options of /send from the query and the body. The code is pure."""

from collections.abc import Callable, Mapping
from typing import Any

from app.config.settings import Site
from app.core.options import NO_OPTIONS, MessageOptions
from app.errors import BadRequest

#: Bounds of the contract, in seconds and bytes.
MOST_TTL_SECONDS = 2_592_000
MOST_ACK_WITHIN_SECONDS = 86_400
MOST_WAIT_SECONDS = 60
MAX_COLLAPSE_BYTES = 64
_TRUE = frozenset(("true", "1"))
_FALSE = frozenset(("false", "0", ""))
#: The options that need a queue.
_OF_QUEUES = ("ttl", "collapse", "settle", "ack_within", "wait", "notify")
#: The options that the webhook tells of, and its event for each.
OF_WEBHOOKS = {"ack_within": "message.unacknowledged", "notify": "message.acknowledged"}


def _seconds(most: int) -> Callable[[str, Any], int]:
    def read(name: str, value: Any) -> int:
        if type(value) is float and value.is_integer():
            # A whole number, as JSON Schema and several encoders of JSON have it.
            value = int(value)
        text = str(value).strip() if type(value) in (str, int) else ""
        # A longer text is no number of the bounds; a very long one would cost time.
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= most):
            raise BadRequest(f"{name}: expected whole seconds from 1 to {most}.")
        return int(text)

    return read


def _one_of(*choices: str) -> Callable[[str, Any], str]:
    def read(name: str, value: Any) -> str:
        if value not in choices:
            raise BadRequest(f"{name}: expected {' or '.join(choices)}.")
        return str(value)

    return read


def _collapse(name: str, value: Any) -> str:
    text = str(value) if type(value) in (str, int) else ""
    if not 1 <= len(text.encode("utf-8", "replace")) <= MAX_COLLAPSE_BYTES:
        raise BadRequest(f"{name}: expected a text of 1 to {MAX_COLLAPSE_BYTES} bytes.")
    return text


def _flag(name: str, value: Any) -> bool:
    text = str(value).lower() if type(value) in (str, bool, int) else "?"
    if text not in _TRUE | _FALSE:
        raise BadRequest(f"{name}: expected true or false.")
    return text in _TRUE


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "ttl": _seconds(MOST_TTL_SECONDS),
    "collapse": _collapse,
    "settle": _one_of("device", "user"),
    "ack_within": _seconds(MOST_ACK_WITHIN_SECONDS),
    "wait": _one_of("any", "all"),
    "timeout": _seconds(MOST_WAIT_SECONDS),
    "notify": _one_of("acked"),
    "id": _flag,
}
NAMES = frozenset(_READERS)


def read_options(site: Site, query: Mapping[str, str], given: Mapping[str, Any]) -> MessageOptions:
    """The options in the query and beside `rooms` in the body; where both have one, the query wins.

    Raises BadRequest for a wrong value, and for an option that the site cannot keep.
    """
    if not given and NAMES.isdisjoint(query):
        return NO_OPTIONS
    values = {**given, **{name: query[name] for name in NAMES & query.keys()}}
    options = MessageOptions(**{name: _READERS[name](name, value) for name, value in values.items()})
    _check(site, options)
    return options


def _check(site: Site, options: MessageOptions) -> None:
    if not site.has_queues and (refused := [name for name in _OF_QUEUES if getattr(options, name)]):
        raise BadRequest(f"{refused[0]}: expected a site with queues; this one has no userRoomPrefix.")
    for name, event in OF_WEBHOOKS.items():
        if getattr(options, name) and event not in site.webhook.events:
            raise BadRequest(f"{name}: expected a site whose webhook has the event {event}.")
