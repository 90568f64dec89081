"""The events of clients, each answered in its turn. Knows no event, and no way into a site."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import structlog

from app.config.settings import Site
from app.errors import LimitReached, StoreError
from app.observe.counted_lines import CountedLines
from app.observe.counts import Counts
from app.protocols.messenger.answers import ChatEvent, ChatRefusal, ChatUnavailable
from app.protocols.messenger.chat_names import ChatNames
from app.protocols.messenger.chatter import Chatter
from app.protocols.messenger.event_gate import WaitingEvent
from app.protocols.messenger.figures import MessengerCounts
from app.protocols.messenger.handlers import (
    EntranceHandler,
    Handler,
    check_standing,
    event_of,
    read_event,
    read_object,
)
from app.protocols.messenger.settings import Messenger
from app.protocols.messenger.text_ids import ANSWERED, ASKED, FoundIds, IdOf, each_id
from app.watched_tasks import start_logged

_log = structlog.get_logger(__name__)


class EventIds(Protocol):
    """The ids in events, as the clients of a site send and get them."""

    def read(self, event: str, handler: Handler, args: list[Any]) -> Any:
        """The data of an event, before its turn. Raises ChatRefusal, and nothing else."""

    async def take(self, site: Site, event: str, handler: Handler, data: Any) -> ChatEvent:
        """The data in its turn. Raises ChatRefusal and StoreError."""

    async def show(self, site: Site, event: str, answer: dict[str, Any]) -> dict[str, Any]:
        """An answer as the client gets it. Raises StoreError."""


class NumberIds:
    """The ids of a site without a backend: numbers. Holds no state."""

    def read(self, event: str, handler: Handler, args: list[Any]) -> ChatEvent:
        """Reads all of it."""
        return read_event(handler, args)

    async def take(self, site: Site, event: str, handler: Handler, data: ChatEvent) -> ChatEvent:
        """Takes it as it is."""
        return data

    async def show(self, site: Site, event: str, answer: dict[str, Any]) -> dict[str, Any]:
        """Leaves it as it is."""
        return answer


class TextIds:
    """The ids of a site beside a backend: texts. Holds no state; lives as long as the node."""

    def __init__(self, names: ChatNames) -> None:
        self._names = names

    def read(self, event: str, handler: Handler, args: list[Any]) -> Any:
        """Reads an object whose ids are texts."""
        data = read_object(args)
        each_id(ASKED.get(event), data, FoundIds().add_text)
        return data

    async def take(self, site: Site, event: str, handler: Handler, data: Any) -> ChatEvent:
        """Takes it with numbers for the texts. A text that none has becomes a number that none has."""
        found, shape = FoundIds(), ASKED.get(event)
        each_id(shape, data, found.add)
        numbers = await self._names.numbers(site, found.of[IdOf.USER], found.of[IdOf.ROOM])
        return event_of(handler, each_id(shape, data, numbers.of))

    async def show(self, site: Site, event: str, answer: dict[str, Any]) -> dict[str, Any]:
        """Shows it with texts for the numbers."""
        if (shape := ANSWERED.get(event)) is None:
            return answer
        # Messages come packed, as other sites send them.
        plain = msgspec.json.decode(msgspec.json.encode(answer))
        shown: dict[str, Any] = await self._names.shown(site, shape, plain)
        return shown


class ChatterEvents:
    """The events of the clients of one kind of sites, on one node. Lives as long as the node."""

    def __init__(self, handlers: Mapping[str, Handler], ids: EventIds, counts: Counts) -> None:
        """`handlers` are the events by name."""
        self._handlers = handlers
        self._ids = ids
        self._counts = counts
        self._impersonations = CountedLines(_log, "warning", "impersonation refused")

    def receive(self, chatter: Chatter, event: str, args: list[Any], ack_id: int | None) -> None:
        """Puts an event into the client's row, or refuses it at once."""
        site = chatter.caller.site
        try:
            now = asyncio.get_running_loop().time()
            chatter.gate.count(now, site.require_section(Messenger).events_per_second)
            handler = self._handlers.get(event)
            if handler is None:
                raise ChatRefusal("bad_request", "Expected the name of an event.")
            waiting = WaitingEvent(event, handler, self._ids.read(event, handler, args), ack_id)
        except ChatRefusal as refusal:
            self._send(chatter, ack_id, refusal.answer, refusal.code)
            return
        chatter.gate.waiting.append(waiting)
        if not chatter.gate.is_working:
            chatter.gate.is_working = True
            start_logged(self._handle_all(chatter), "messenger events")

    async def _handle_all(self, chatter: Chatter) -> None:
        """Handles the events of a connection, one after the other: their order is that of the client. Messages in a row
        are accepted together."""
        try:
            while chatter.gate.waiting:
                events = chatter.gate.take()
                # One by one: the handlers of a group begin in the order of its events.
                taken = [await self._take(chatter, event) for event in events]
                if len(events) == 1:
                    await self._handle(chatter, events[0], taken[0])
                else:
                    await asyncio.gather(*map(self._handle, [chatter] * len(events), events, taken))
        finally:
            chatter.gate.is_working, chatter.gate.under_way = False, 0

    async def _take(self, chatter: Chatter, event: WaitingEvent) -> ChatEvent | Exception:
        """The data of an event, or the error that its answer tells."""
        try:
            check_standing(chatter.caller, event.handler)
            return await self._ids.take(chatter.caller.site, event.name, event.handler, event.data)
        except (ChatRefusal, StoreError) as error:
            return error

    async def _handle(self, chatter: Chatter, event: WaitingEvent, taken: ChatEvent | Exception) -> None:
        answer, code = await self._answer(chatter, event, taken)
        self._send(chatter, event.ack_id, answer, code)
        then, chatter.then = chatter.then, None
        if then is not None:
            await then()

    async def _answer(
        self, chatter: Chatter, event: WaitingEvent, taken: ChatEvent | Exception
    ) -> tuple[dict[str, Any], str]:
        caller = chatter.caller
        try:
            if isinstance(taken, Exception):
                raise taken
            subject = chatter if isinstance(event.handler, EntranceHandler) else caller
            answer = dict(await event.handler.handle(subject, taken) or {})
            return {"ok": True, **await self._ids.show(caller.site, event.name, answer)}, "ok"
        except ChatRefusal as refusal:
            if refusal.code == "impersonation":
                self._impersonations.tell(site=caller.site.name, shown={"connection": caller.link.log_name})
            return refusal.answer, refusal.code
        except LimitReached as reached:
            return ChatRefusal("too_many", str(reached)).answer, "too_many"
        except StoreError:
            return ChatUnavailable().answer, "unavailable"
        except Exception:
            # Never a client that waits for its answer for ever.
            self._counts.faults["messenger"] += 1
            _log.exception("event failed", site=caller.site.name, event_name=event.name)
            return ChatUnavailable().answer, "failed"
        finally:
            # An error that was raised here holds this frame.
            del taken

    def _send(self, chatter: Chatter, ack_id: int | None, answer: dict[str, Any], code: str) -> None:
        self._counts.of(chatter.caller.site.name).part(MessengerCounts).events[code] += 1
        if ack_id is not None:
            chatter.link.send_ack_body(ack_id, msgspec.json.encode([answer]))
