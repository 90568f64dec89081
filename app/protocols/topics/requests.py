"""The JSON bodies of topics: requests of subscribers and backends. Pure: bytes in, a value or BadRequest out."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from app.errors import BadRequest
from app.json_depth import MAX_LEVELS, is_too_deep
from app.protocols.topics.secret_names import is_secret
from app.protocols.topics.topic import (
    ANONYMOUS_CLIENT,
    STRICT,
    Levels,
    TopicRules,
    has_wildcard,
    is_reserved,
    levels_of,
)
from app.protocols.validation import decode_json, has_many_items
from app.surrogates import encode_text

#: The limit for all topics of one subscription together: each level costs some 300 bytes.
MAX_LEVELS_IN_ALL = 5_000
#: So many bytes of a topic count as one more level.
_BYTES_OF_LEVEL = 64
MAX_CLIENT_ID_BYTES = 512
MAX_EMITTED_TOPICS = 1_000
#: Each pattern is compared with every subscription of the site on every node.
MAX_EMITTED_PATTERNS = 50
MAX_CONNECTION_ID = 2**53
#: The limit for the fields of a subscription that are kept only to be shown.
MAX_OTHER_BYTES = 2_048
#: es-web-notify's words, which stand in the status line.
INVALID_JSON = "Invalid JSON in body"
INVALID_OBJECT = "Invalid object"
NO_LIST = "Event Points should be an array"
_KNOWN_FIELDS = frozenset(("ep", "bind_key", "clid"))
#: The values that the JSON of one topic may hold: its object, and signs within its texts.
_ITEMS_OF_TOPIC = 8
_ITEMS_BESIDE = 64


class RequestedTopic(Struct, frozen=True):
    """One topic in a subscription."""

    topic: str
    levels: Levels
    #: Whether the subscription is to binded events of a registered topic only.
    is_binded: bool


class TopicSubscription(Struct, frozen=True):
    """The request of a subscriber. Its repr does not contain the key."""

    wishes: Sequence[RequestedTopic]
    client: str
    bind_key: str | None
    #: The levels in all topics together, with long ones counted as several; see `levels_in`.
    levels: int = 0
    #: The other fields of the request, as JSON.
    more: Mapping[str, bytes] = {}

    def __repr__(self) -> str:
        return f"Subscription({self.client!r}, {len(self.wishes)} topics)"


class Target(Struct, frozen=True):
    """One topic that a backend emits to."""

    topic: str
    #: The only connection that gets the event; None: all connections.
    whisper: int | None = None
    is_binded: bool = False
    password: str | None = None

    def __repr__(self) -> str:
        return f"Target({self.topic!r})"


class Emission(Struct, frozen=True):
    """The request of a backend to emit. Its repr contains neither key nor payload."""

    targets: Sequence[Target]
    type: str
    #: `["type",detail]`, with the detail as the backend sent it.
    body: bytes
    bind_key: str | None

    def __repr__(self) -> str:
        return f"Emission({self.type!r}, {len(self.targets)} topics)"


class Proof(Struct, frozen=True):
    """The body of POST /alive. Its repr does not contain the secret."""

    connection: int
    secret: str

    def __repr__(self) -> str:
        return f"Proof({self.connection})"


class _EventBody(Struct):
    type: Any = None
    detail: Raw | UnsetType = UNSET


class _EmissionBody(Struct):
    ep: Raw = Raw(b"null")
    bind_key: Any = None
    e: Raw | UnsetType = UNSET


class _ProofBody(Struct):
    connid: Any = None
    secret: Any = None


_fields_decoder = msgspec.json.Decoder(dict[str, Raw])
#: Tells what is no JSON, and builds nothing of what is.
_syntax_decoder = msgspec.json.Decoder(Raw)
_any_decoder = msgspec.json.Decoder()
_emission_decoder = msgspec.json.Decoder(_EmissionBody)
_event_decoder = msgspec.json.Decoder(_EventBody)
_proof_decoder = msgspec.json.Decoder(_ProofBody)


def read_subscription(body: bytes, max_topics: int, rules: TopicRules = STRICT) -> TopicSubscription:
    """Reads the body of POST /. Raises BadRequest."""
    if has_many_items(body, _ITEMS_OF_TOPIC * max_topics + _ITEMS_BESIDE):
        _decode(_syntax_decoder, body, NO_LIST)
        raise BadRequest(f"ep: expected at most {max_topics} topics, and little else.")
    fields = _decode(_fields_decoder, body, NO_LIST)
    known = {name: _decode(_any_decoder, bytes(fields[name]), NO_LIST) for name in _KNOWN_FIELDS if name in fields}
    wishes = [_wish(point, rules) for point in _points(known.get("ep"), max_topics, NO_LIST)]
    return subscription_of(wishes, known.get("clid"), known.get("bind_key"), rules, other_fields(fields))


def subscription_of(
    wishes: Sequence[RequestedTopic],
    client: object,
    bind_key: object,
    rules: TopicRules = STRICT,
    more: Mapping[str, bytes] | None = None,
) -> TopicSubscription:
    """A subscription to these topics without duplicates; the client may be anonymous. Raises BadRequest."""
    levels = levels_in(wishes)
    if levels > MAX_LEVELS_IN_ALL:
        raise BadRequest(f"ep: expected at most {MAX_LEVELS_IN_ALL} levels in all topics together.")
    # The original treated every value that is not text as no name, and "" as a name.
    name = client if isinstance(client, str) and (client or rules.takes_text) else ANONYMOUS_CLIENT
    if len(encode_text(name)) > MAX_CLIENT_ID_BYTES:
        raise BadRequest(f"clid: expected at most {MAX_CLIENT_ID_BYTES} bytes.")
    unique = {(wish.topic, wish.is_binded): wish for wish in wishes}
    return TopicSubscription(list(unique.values()), name, _bind_key(bind_key), levels, more or {})


def other_fields(fields: Mapping[str, Raw]) -> dict[str, bytes]:
    """The fields of a subscription that mean nothing here, as JSON: /connections shows them. Without a secret, and only
    as many as fit into the bound."""
    shown: dict[str, bytes] = {}
    left = MAX_OTHER_BYTES
    for name, value in fields.items():
        text = bytes(value)
        left -= len(text) + len(encode_text(name))
        if left < 0:
            break
        if name not in _KNOWN_FIELDS and _is_readable(text):
            shown[name] = b'"(removed)"' if is_secret(encode_text(name)) else text
    return shown


def _is_readable(text: bytes) -> bool:
    """Whether every node can decode the value: numbers without bounds are no mistake of syntax."""
    try:
        _decode(_any_decoder, text, NO_LIST)
    except BadRequest:
        return False
    return not is_too_deep(text)


def levels_in(wishes: Sequence[RequestedTopic]) -> int:
    """The levels of all topics, which stand for their memory: every 64 bytes count as one more."""
    return sum(len(wish.levels) + len(wish.topic) // _BYTES_OF_LEVEL for wish in wishes)


def read_emission(body: bytes, rules: TopicRules = STRICT) -> Emission:
    """Reads the body of POST /event. Raises BadRequest, with 403 for a topic that only the server may emit to."""
    read = _decode(_emission_decoder, body, INVALID_OBJECT)
    if has_many_items(bytes(read.ep), _ITEMS_OF_TOPIC * MAX_EMITTED_TOPICS):
        raise BadRequest(f"ep: expected at most {MAX_EMITTED_TOPICS} topics.")
    points = _points(_decode(_any_decoder, bytes(read.ep), INVALID_OBJECT), MAX_EMITTED_TOPICS, INVALID_OBJECT)
    if rules.takes_text:
        # es-web-notify passed over them.
        points = [point for point in points if not isinstance(point, int | float)]
    targets = [_target(point, rules) for point in points]
    if sum(has_wildcard(target.topic) for target in targets) > MAX_EMITTED_PATTERNS:
        raise BadRequest(f"ep: expected at most {MAX_EMITTED_PATTERNS} topics with wildcards.")
    if read.e is UNSET or not bytes(read.e).lstrip().startswith(b"{"):
        raise BadRequest("e: expected an object with a type.", phrase=INVALID_OBJECT)
    event = _decode(_event_decoder, bytes(read.e), INVALID_OBJECT)
    if not isinstance(event.type, str):
        raise BadRequest("e.type: expected text.", phrase=INVALID_OBJECT)
    if event.detail is not UNSET and is_too_deep(bytes(event.detail)):
        raise BadRequest(f"e.detail: nested too deeply, expected at most {MAX_LEVELS} levels.")
    detail = b"" if event.detail is UNSET else b"," + bytes(event.detail)
    return Emission(
        targets, event.type, b"[" + msgspec.json.encode(event.type) + detail + b"]", _bind_key(read.bind_key)
    )


def read_proof(body: bytes) -> Proof:
    """Reads the body of POST /alive. Raises BadRequest."""
    if has_many_items(body, _ITEMS_BESIDE):
        _decode(_syntax_decoder, body, INVALID_OBJECT)
        raise BadRequest("Body: expected connid and secret.")
    read = _decode(_proof_decoder, body, INVALID_OBJECT)
    if not isinstance(read.secret, str):
        raise BadRequest("secret: expected text.", phrase=INVALID_OBJECT)
    return Proof(_connection_id(read.connid, "connid", INVALID_OBJECT), read.secret)


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes, no_object: str) -> Any:
    """`no_object` are the words for JSON that is no object."""
    try:
        return decode_json(decoder, body)
    except UnicodeDecodeError:
        raise BadRequest("Invalid JSON in body: expected UTF-8.", phrase=INVALID_JSON) from None
    except RecursionError:
        raise BadRequest("Invalid JSON in body: nested too deeply.", phrase=INVALID_JSON) from None
    except msgspec.ValidationError:
        raise BadRequest("Body: expected a JSON object.", phrase=no_object) from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"Invalid JSON in body: {error}.", phrase=INVALID_JSON) from None


def _points(points: object, at_most: int, no_list: str) -> list[Any]:
    if not isinstance(points, list):
        raise BadRequest("ep: expected a list of topics.", phrase=no_list)
    if len(points) > at_most:
        raise BadRequest(f"ep: expected at most {at_most} topics.")
    return points


def _wish(point: object, rules: TopicRules) -> RequestedTopic:
    topic, settings = _topic_of(point, "Invalid Event Point")
    return RequestedTopic(topic, levels_of(topic, rules), settings.get("binded") is True)


def _target(point: object, rules: TopicRules) -> Target:
    topic, settings = _topic_of(point, "Event Point can't be null")
    levels_of(topic, rules)
    if is_reserved(topic):
        raise BadRequest(f"Topic {topic!r}: only the server emits to topics that begin with @.", status=403)
    whisper = settings.get("whisper")
    # es-web-notify refuses null; elsewhere it means that the event is no whisper.
    is_whisper = whisper is not None or (rules.takes_text and "whisper" in settings)
    password = settings.get("password")
    if password is not None and not isinstance(password, str):
        raise BadRequest("password: expected text.")
    return Target(
        topic,
        _connection_id(whisper, "whisper", "Invalid connection id in whisper") if is_whisper else None,
        settings.get("binded") is True,
        password,
    )


def _topic_of(point: object, wrong: str) -> tuple[str, dict[str, Any]]:
    if isinstance(point, str):
        return point, {}
    # JavaScript takes a list for an object.
    if not isinstance(point, dict | list):
        raise BadRequest("ep: expected each topic to be text or an object with a topic.", phrase=wrong)
    settings = point if isinstance(point, dict) else {}
    topic = settings.get("topic")
    if topic is None:
        raise BadRequest("Topic missing.", phrase="Topic missing")
    if not isinstance(topic, str):
        raise BadRequest("Topic should be a string.", phrase="Topic should be a string")
    return topic, settings


def _connection_id(value: object, name: str, wrong: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JavaScript has only one type of number
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_CONNECTION_ID:
        raise BadRequest(f"{name}: expected the number of a connection.", phrase=wrong)
    return value


def _bind_key(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise BadRequest("bind_key: expected text.")
