"""The operations of receipts for operators. They ask the same questions as the paths of the protocol, with the same
bounds."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from app.config.settings import Site
from app.config.wording import matching
from app.errors import RequestRefused
from app.protocols.operations import Call, Inputs, ListInputs, Operation, Role, Time, Words
from app.protocols.receipts.cursor import list_name
from app.protocols.receipts.parameters import Parameters, message_id
from app.protocols.receipts.settings import MAX_NAME_BYTES

_Ask: TypeAlias = Callable[[Site, Parameters], Awaitable[dict[str, Any]]]
_AskOfMessage: TypeAlias = Callable[[Site, Parameters, int], Awaitable[dict[str, Any]]]
_TIMES = ("since", "until")
#: A device may have no id: "".
DeviceId = Annotated[str, Meta(max_length=MAX_NAME_BYTES), matching(r"^[^\x00]*\Z", "a text without a NUL")]


class MessagesWanted(ListInputs, frozen=True, kw_only=True):
    """Which messages to list."""

    room: Words | None = None
    user: Words | None = None
    event: Words | None = None
    #: Some device is in this state.
    state: Literal["waiting", "written", "acked", "expired", "replaced", "settled", "withdrawn", "resynced"] | None = (
        None
    )
    since: Time | None = None
    until: Time | None = None
    order: Literal["newest", "oldest"] = "newest"


class MessageDevices(ListInputs, frozen=True, kw_only=True):
    """A message, and which part of its devices."""

    id: Words


class MessagePath(Inputs, frozen=True, kw_only=True):
    """The id of a message."""

    id: Words


class DevicesWanted(ListInputs, frozen=True, kw_only=True):
    """Which devices to list."""

    user: Words | None = None
    state: Literal["connected", "away", "waiting", "resync"] | None = None
    #: The longest queues first, as far as their bytes are counted; None: the order of Redis.
    order: Literal["queue"] | None = None


class DeviceName(Inputs, frozen=True, kw_only=True):
    """A device of a user."""

    user: Words
    device: DeviceId = ""


class QueueWanted(ListInputs, frozen=True, kw_only=True):
    """A device of a user, and which part of its queue."""

    user: Words
    device: DeviceId = ""


class CopyWanted(DeviceName, frozen=True, kw_only=True):
    """A message, and the device that is to get a copy of it."""

    id: Words


class TraceWanted(Inputs, frozen=True, kw_only=True):
    """Which user to trace, and how far back."""

    user: Words | None = None
    device: Words | None = None
    since: Time | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 200


class Questions(Struct, frozen=True):
    """The questions that the paths of the protocol ask too. Lives as long as the node."""

    list_messages: _Ask
    show_message: _AskOfMessage
    withdraw_message: _AskOfMessage
    send_again: Callable[[Site, int, str, str], Awaitable[dict[str, Any]]]
    list_devices: _Ask
    list_queue: _Ask
    show_device: Callable[[Site, str, str], Awaitable[dict[str, Any]]]
    forget_device: _Ask
    trace: _Ask


def receipt_operations(ask: Questions) -> list[Operation]:
    """Everything about messages, devices and users."""
    return [*_message_operations(ask), *_device_operations(ask)]


def _message_operations(ask: Questions) -> list[Operation]:
    messages, see = "/sites/{site}/messages", Role.VIEWER
    show = "Show a message with its devices, each with the reason of its state"
    run_list, run_show = _list(ask.list_messages, "messages"), _of_message(ask.show_message)
    withdraw, summary = _of_message(ask.withdraw_message), "Withdraw a message from every queue"
    again = "Send a copy of a message to one device"
    trace = "Show what happened to a user"
    one = f"{messages}/{{id}}"
    return [
        Operation("messages.list", "List messages", "GET", messages, see, run_list, MessagesWanted),
        Operation("messages.show", show, "GET", one, see, run_show, MessageDevices),
        Operation("messages.withdraw", summary, "DELETE", one, Role.OPERATOR, withdraw, MessagePath),
        Operation("messages.send_again", again, "POST", f"{one}/send-again", Role.OPERATOR, _again(ask), CopyWanted),
        Operation("trace.show", trace, "GET", "/sites/{site}/trace", see, _trace(ask.trace), TraceWanted),
    ]


def _device_operations(ask: Questions) -> list[Operation]:
    devices, see, act = "/sites/{site}/devices", Role.VIEWER, Role.OPERATOR
    queue = "List the messages that wait for a device, oldest first"
    drop = "Drop the queue of a device, which gets _resync"
    forget = "Forget a device with its queue, and close its connections"
    drop_queue, forget_device = _plain(ask.forget_device, resync="true"), _plain(ask.forget_device)
    return [
        Operation("devices.list", "List devices", "GET", devices, see, _devices(ask.list_devices), DevicesWanted),
        Operation("devices.queue", queue, "GET", f"{devices}/queue", see, _queue(ask), QueueWanted),
        Operation("devices.drop_queue", drop, "DELETE", f"{devices}/queue", act, drop_queue, DeviceName),
        Operation("devices.forget", forget, "DELETE", devices, act, forget_device, DeviceName),
    ]


def _plain(ask: _Ask, **more: str) -> Callable[[Call], Awaitable[dict[str, Any]]]:
    async def run(call: Call) -> dict[str, Any]:
        return _values(await ask(call.known_site, _parameters(call, _given(call) | more)))

    return run


def _list(ask: _Ask, items: str) -> Callable[[Call], Awaitable[dict[str, Any]]]:
    async def run(call: Call) -> dict[str, Any]:
        answer = _values(await ask(call.known_site, _parameters(call, _given(call))))
        return {"items": answer.pop(items), **answer}

    return run


def _of_message(ask: _AskOfMessage) -> Callable[[Call], Awaitable[dict[str, Any]]]:
    async def run(call: Call) -> dict[str, Any]:
        given = _given(call)
        id = given.pop("id")
        return _values(await ask(call.known_site, _parameters(call, given, id), message_id(id)))

    return run


def _again(questions: Questions) -> Callable[[Call], Awaitable[dict[str, Any]]]:
    async def run(call: Call) -> dict[str, Any]:
        given: CopyWanted = call.given
        return await questions.send_again(call.known_site, message_id(given.id), given.user, given.device)

    return run


def _devices(list_devices: _Ask) -> Callable[[Call], Awaitable[dict[str, Any]]]:
    ask = _list(list_devices, "devices")

    async def run(call: Call) -> dict[str, Any]:
        # A page that says so is worth more than a refusal.
        if not call.known_site.has_queues:
            return {"items": [], "cursor": None, "has_queues": False}
        return await ask(call) | {"has_queues": True}

    return run


def _queue(questions: Questions) -> Callable[[Call], Awaitable[dict[str, Any]]]:
    ask = _list(questions.list_queue, "messages")

    async def run(call: Call) -> dict[str, Any]:
        device = await questions.show_device(call.known_site, call.given.user, call.given.device)
        return await ask(call) | {"device": device}

    return run


def _trace(trace: _Ask) -> Callable[[Call], Awaitable[dict[str, Any]]]:
    ask = _plain(trace)

    async def run(call: Call) -> dict[str, Any]:
        return await ask(call) if call.given.user is not None else {"user": None, "lines": []}

    return run


def _given(call: Call) -> dict[str, str]:
    """The parameters as the query of a request has them."""
    given = msgspec.structs.asdict(call.given)
    shown = {name: str(value) for name, value in given.items() if value is not None}
    return shown | {name: _zoned(name, shown[name]) for name in _TIMES if name in shown}


def _zoned(name: str, text: str) -> str:
    """A time with seconds and zone; without a zone it is UTC."""
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError:
        raise RequestRefused(f"{name}: expected a time like 2026-01-31T12:00:00Z.") from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat()


def _parameters(call: Call, query: Mapping[str, str], of: str = "") -> Parameters:
    return Parameters(query, call.known_site.api_key, list_name(f"{type(call.given).__name__} {of}", query))


def _values(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer without parts that are JSON already: pages read all of it."""
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(answer))
    return values
