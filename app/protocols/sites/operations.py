"""The operations of sending: an operator sends a message as the site's backend would, and sees the request for it."""

import shlex
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import quote

import msgspec
from msgspec import Meta, Raw

from app.config.settings import Site
from app.errors import BadRequest, RequestRefused
from app.protocols.operations import Call, Inputs, Operation, Role, Words
from app.protocols.sites.send_answer import Accepted, SendFailure
from app.protocols.sites.send_options import OF_WEBHOOKS
from app.protocols.sites.sender import checked_key

#: Seconds of `wait` for an operator, whose answer has a deadline of its own.
MOST_WAIT_SECONDS = 8
#: The rooms that one text names.
_RoomLines = Annotated[str, Meta(description="Further rooms, one in each line.")]
_Args = Annotated[Any, Meta(description="The arguments: a list, or the text of a JSON list.")]
_Wait = Annotated[int, Meta(ge=1, le=MOST_WAIT_SECONDS)]

#: A message without devices is no error: the answer says so.
NOBODY = "Nobody is in these rooms, and no device waits for the message. Are the names of the rooms right?"


class MessageInputs(Inputs, frozen=True, kw_only=True):
    """A message as `/send` takes it."""

    rooms: tuple[str, ...] = ()
    room_lines: _RoomLines = ""
    event: str = ""
    args: _Args = ()
    ttl: int | None = None
    collapse: Words | None = None
    settle: Literal["device", "user"] | None = None
    ack_within: int | None = None
    wait: Literal["any", "all"] | None = None
    timeout: _Wait | None = None
    notify: Literal["acked"] | None = None
    id: bool = False
    resync: bool = False
    idempotency_key: Words | None = None
    #: Whether to check the message without sending it.
    is_dry: bool = False


#: The options in the query of `/send`, in the order of its documentation.
_OPTIONS = ("ttl", "collapse", "settle", "ack_within", "wait", "timeout", "notify", "id", "resync")


class BodySender(Protocol):
    """The part of `/send` that operators use."""

    async def send_body(
        self, site: Site, query: Mapping[str, str], key: str | None, body: bytes, *, is_dry: bool = False
    ) -> Accepted | SendFailure | None:
        """The answer to a body of JSON; with `is_dry` it is checked and not sent. None: it is as it should be."""


class _Sends:
    """The operations. Lives as long as the node."""

    def __init__(self, endpoint: BodySender, port: int) -> None:
        self._endpoint = endpoint
        self._port = port

    async def show(self, call: Call) -> dict[str, Any]:
        site = call.known_site
        return {
            "has_queues": site.has_queues,
            "user_room_prefix": site.user_room_prefix,
            "public_channel": site.public_channel,
            "most_wait_seconds": MOST_WAIT_SECONDS,
            #: The options that need an event of the webhook, and whether the site has it.
            "webhook_options": {name: event in site.webhook.events for name, event in OF_WEBHOOKS.items()},
        }

    async def send(self, call: Call) -> dict[str, Any]:
        given, site = call.given, call.known_site
        query, body, key = _query(given), _body(given), _key(given)
        answer = await self._endpoint.send_body(site, query, key, body, is_dry=given.is_dry)
        if isinstance(answer, SendFailure):
            raise RequestRefused(answer.reason, answer.body["code"], answer.status)
        curl = curl_line(self._port, site.name, query, key, body)
        if answer is None:
            return {"ok": True, "is_dry": True, "curl": curl}
        return {**answer.body, **_remarks(answer), "curl": curl}


def send_operations(endpoint: BodySender, port: int) -> list[Operation]:
    """The operations of sending; `port` is the server's own."""
    do, path, operator = _Sends(endpoint, port), "/sites/{site}/send", Role.OPERATOR
    return [
        Operation("send.show", "Show what a message may have", "GET", path, operator, do.show),
        Operation(
            "send.message",
            "Send a message",
            "POST",
            path,
            operator,
            do.send,
            MessageInputs,
            # The journal does not keep them either, unless the site says so.
            secrets=frozenset(["args"]),
            tells=True,
        ),
    ]


def curl_line(port: int, site: str, query: Mapping[str, str], key: str | None, body: bytes) -> str:
    """The command that sends the same. The site's key is not in it: the shell's variable API_KEY stands for it."""
    words = "&".join(f"{name}={quote(value, safe='')}" for name, value in {"site": site, **query}.items())
    url = shlex.quote(f"http://localhost:{port}/send?{words}")
    lines = [f"curl {url}", '-H "X-API-Key: $API_KEY"', "-H 'Content-Type: application/json'"]
    lines += ["-H 'Accept: application/json'"]
    if key is not None:
        lines.append("-H " + shlex.quote(f"Idempotency-Key: {key}"))
    return " \\\n  ".join([*lines, "-d " + shlex.quote(body.decode())])


def _query(given: MessageInputs) -> dict[str, str]:
    """The options as the query of `/send` has them."""
    values = {name: getattr(given, name) for name in _OPTIONS}
    return {
        name: "true" if value is True else str(value)
        for name, value in values.items()
        if value is not None and value is not False
    }


def _body(given: MessageInputs) -> bytes:
    """The body of `/send`. Raises RequestRefused."""
    rooms = [*given.rooms, *(line.strip() for line in given.room_lines.splitlines() if line.strip())]
    if not rooms:
        raise RequestRefused("rooms: expected a room.")
    return msgspec.json.encode({"rooms": rooms, "event": given.event, "args": _args(given.args)})


def _args(given: Any) -> Any:
    """The arguments; a text is JSON, which stays as it is."""
    if not isinstance(given, str):
        return given
    try:
        return msgspec.json.decode(given or "[]", type=Raw)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise RequestRefused('args: expected a JSON list, such as ["hello", {"n": 1}].') from None


def _key(given: MessageInputs) -> str | None:
    try:
        return None if given.idempotency_key is None else checked_key(given.idempotency_key)
    except BadRequest as error:
        raise RequestRefused(str(error)) from None


def _remarks(answer: Accepted) -> dict[str, Any]:
    """Facts that an operator should know of an answer that looks well."""
    remarks: dict[str, Any] = {"is_replayed": True} if answer.is_replayed else {}
    if not answer.body["recipients"]:
        remarks["warning"] = NOBODY
    return remarks
