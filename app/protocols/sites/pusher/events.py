"""The bodies of Pusher's events, read into drafts of messages: a channel is a room, an event has one argument. Pure."""

import re
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from app.config.settings import Site
from app.core.message import ExceptHandle
from app.core.options import NO_OPTIONS
from app.errors import BadRequest
from app.json_depth import is_too_deep
from app.protocols.sites.pusher.settings import PusherApp
from app.protocols.sites.send_body import Draft, body_of
from app.protocols.validation import decode_json, explain

#: The events of one batch. Pusher takes ten.
MOST_EVENTS = 100
#: The channels of one event, as Pusher has it.
MOST_CHANNELS = 100
#: The characters of a channel, of an event and of a user's id, as Pusher has it.
MAX_PUSHER_NAME = 200
#: A channel that stands for one user.
TO_USER = "#server-to-user-"
_CHANNEL = re.compile(rf"({TO_USER})?[-a-zA-Z0-9_=@,.;]+", re.ASCII)
#: See `socket_id` in settings.py.
_SOCKET = re.compile(r"(\d{1,19})\.\d{1,19}", re.ASCII)


class PusherEvent(Struct):
    """An event as the packages of Pusher write it."""

    name: str
    data: Raw | UnsetType = UNSET
    channels: list[str] | UnsetType = UNSET
    channel: str | UnsetType = UNSET
    socket_id: str | None = None
    info: str | None = None


class _PusherBatch(Struct):
    batch: list[PusherEvent]


class EventDraft(Struct, frozen=True):
    """An event that was read and not sent yet."""

    draft: Draft
    channels: Sequence[str]
    #: The attributes of its channels that the answer is to have.
    info: frozenset[str]


#: The attributes that a channel may be asked for. Pusher knows further ones, which it grants to some of its customers.
USERS, SUBSCRIPTIONS = "user_count", "subscription_count"
_Body = TypeVar("_Body", PusherEvent, _PusherBatch)
_event_decoder = msgspec.json.Decoder(PusherEvent)
_batch_decoder = msgspec.json.Decoder(_PusherBatch)
_text_decoder = msgspec.json.Decoder(str)
_any_decoder = msgspec.json.Decoder(Raw)


def read_event(site: Site, body: bytes) -> list[EventDraft]:
    """The event of a body. Raises BadRequest."""
    event = _decoded(_event_decoder, body)
    return [_draft(site, event, _channels_of(event))]


def read_events(site: Site, body: bytes) -> list[EventDraft]:
    """The events of a batch. Raises BadRequest for the first mistake."""
    batch = _decoded(_batch_decoder, body).batch
    if not 1 <= len(batch) <= MOST_EVENTS:
        raise BadRequest(f"batch: expected 1 to {MOST_EVENTS} events, got {len(batch)}.")
    drafts = []
    for number, event in enumerate(batch):
        try:
            drafts.append(_draft(site, event, _channels_of(event)))
        except BadRequest as error:
            raise BadRequest(f"batch[{number}]: {error}") from None
    return drafts


def checked_channel(channel: str) -> str:
    """The name of a channel. Raises BadRequest."""
    if len(channel) > MAX_PUSHER_NAME or not _CHANNEL.fullmatch(channel):
        raise BadRequest(f"channel: expected 1 to {MAX_PUSHER_NAME} letters, digits and -_=@,.; in its name.")
    return channel


def room_of(site: Site, channel: str) -> str:
    """The room that a channel is. Raises BadRequest for the channel of a user, where a site has none."""
    user = channel.removeprefix(TO_USER)
    return channel if user == channel else user_room_of(site, user)


def user_room_of(site: Site, user: str) -> str:
    """The user room of Pusher's user. Raises BadRequest."""
    if not site.user_room_prefix:
        raise BadRequest("user: expected a site with users, this one has no userRoomPrefix.")
    return f"{site.user_room_prefix}{user}"


def read_info(text: str | None) -> frozenset[str]:
    """The attributes of channels that are asked for; others than the known ones are left out, as Pusher does for an app
    that may not have them."""
    return frozenset(one.strip() for one in (text or "")[:MAX_PUSHER_NAME].split(",")) & {USERS, SUBSCRIPTIONS}


def _decoded(decoder: "msgspec.json.Decoder[_Body]", body: bytes) -> _Body:
    try:
        decoded: _Body = decode_json(decoder, body)
        return decoded
    except msgspec.ValidationError as error:
        raise BadRequest(f"Body: {explain(str(error))}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("Body: expected a JSON object in UTF-8.") from None


def _channels_of(event: PusherEvent) -> list[str]:
    alone = [] if event.channel is UNSET else [event.channel]
    channels = alone if event.channels is UNSET else event.channels
    if not 1 <= len(channels) <= MOST_CHANNELS:
        raise BadRequest(f"channels: expected 1 to {MOST_CHANNELS} channels, got {len(channels)}.")
    return [checked_channel(channel) for channel in channels]


def _draft(site: Site, event: PusherEvent, channels: list[str]) -> EventDraft:
    if not 1 <= len(event.name) <= MAX_PUSHER_NAME:
        raise BadRequest(f"name: expected 1 to {MAX_PUSHER_NAME} characters.")
    if event.data is UNSET:
        raise BadRequest("data: is missing.")
    but = _SOCKET.fullmatch(event.socket_id) if event.socket_id else None
    if event.socket_id and but is None:
        raise BadRequest("socket_id: expected two numbers with a dot between them.")
    sent = body_of([room_of(site, channel) for channel in channels], event.name, _argument(site, bytes(event.data)))
    draft = Draft(sent, NO_OPTIONS, resync=False, but=ExceptHandle(but[1]) if but else None)
    return EventDraft(draft, channels, read_info(event.info))


def _argument(site: Site, data: bytes) -> bytes:
    """The argument of the message as JSON: the data as they are, or the value that their text holds."""
    if not site.require_section(PusherApp).decode_data or not data.startswith(b'"'):
        return data
    try:
        text = decode_json(_text_decoder, data).encode()
        return data if is_too_deep(text) else bytes(decode_json(_any_decoder, text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Some send plain text. Clients of Pusher take it for text, too.
        return data
