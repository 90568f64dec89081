"""The protocol of receipts: what became of a message, what a device holds, what happened to a user; and withdrawals."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from starlette.routing import Route

from app.config.settings import Site
from app.journal.database import JournalUnavailable
from app.journal.journal import Journal
from app.observe.counted_lines import CountedLines
from app.protocols.protocol import NodeProtocol, NodeServices, ProtocolSpec
from app.protocols.receipts.devices import DeviceReceipts
from app.protocols.receipts.endpoint import Gate, Handler, ReceiptEndpoint
from app.protocols.receipts.figures import METRICS
from app.protocols.receipts.journal_messages import MessageReceipts
from app.protocols.receipts.journal_trace import TraceReceipts
from app.protocols.receipts.openapi import openapi_endpoint
from app.protocols.receipts.operations import Questions, receipt_operations
from app.protocols.receipts.parameters import Parameters, message_id
from app.protocols.receipts.redis_copies import RedisCopies
from app.protocols.receipts.redis_queues import RedisQueueReader
from app.protocols.receipts.refusal import ReceiptRefused
from app.protocols.site_keys import ApiKeys

_log = structlog.get_logger(__name__)


class _NodeReceipts(NodeProtocol):
    """The receipts of one node. Lives as long as the node."""

    def __init__(self, services: NodeServices) -> None:
        self._services = services
        self._keys = ApiKeys(services.config.sites, services.counts, CountedLines(_log, "warning", "receipts refused"))
        queues, follow_up = RedisQueueReader(services.redis), services.delivery.follow_up
        copies = RedisCopies(services.redis, services.ids, services.counts, services.config.max_body_bytes)
        self._messages = MessageReceipts(queues, follow_up, copies)
        devices = DeviceReceipts(queues, follow_up, self._messages.last_acks)
        trace = TraceReceipts(queues, self._messages)
        services.operations.extend(receipt_operations(_questions(self._messages, devices, trace)))
        gate = Gate(self._keys, services.counts)

        def route(path: str, **handlers: Handler) -> Route:
            return Route(path, ReceiptEndpoint(gate, handlers))

        self.routes = [
            route("/messages", GET=_plain(self._messages.list_messages)),
            route("/messages/{id}", GET=_of_message(self._messages.show), DELETE=_of_message(self._messages.withdraw)),
            route("/devices", GET=_plain(devices.list_devices), DELETE=_plain(devices.forget)),
            route("/devices/queue", GET=_plain(devices.list_queue)),
            route("/trace", GET=_plain(trace.trace)),
            Route("/openapi.json", openapi_endpoint),
        ]

    async def start(self) -> None:
        """Opens the journal, which connects at the first question."""
        self._messages.journal = await Journal.open(self._services.config, self._services.redis)

    async def close(self) -> None:
        """Ends the connections to the journal."""
        if self._messages.journal is not None:
            await self._messages.journal.close()


def _questions(messages: MessageReceipts, devices: DeviceReceipts, trace: TraceReceipts) -> Questions:
    return Questions(
        list_messages=messages.list_messages,
        show_message=messages.show,
        withdraw_message=messages.withdraw,
        send_again=messages.send_again,
        list_devices=devices.list_all,
        list_queue=devices.list_queue,
        show_device=devices.show,
        forget_device=devices.forget,
        trace=trace.trace,
    )


def _plain(ask: Callable[[Site, Parameters], Awaitable[dict[str, Any]]]) -> Handler:
    async def handle(site: Site, query: Parameters, path: Mapping[str, str]) -> dict[str, Any]:
        return await _answered(ask(site, query))

    return handle


def _of_message(ask: Callable[[Site, Parameters, int], Awaitable[dict[str, Any]]]) -> Handler:
    async def handle(site: Site, query: Parameters, path: Mapping[str, str]) -> dict[str, Any]:
        return await _answered(ask(site, query, message_id(path["id"])))

    return handle


async def _answered(answer: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    try:
        return await answer
    except JournalUnavailable as error:
        _log.warning("journal not read", reason=str(error))
        raise ReceiptRefused("The journal does not answer, try again.", "journal_unavailable", 503) from None


RECEIPTS = ProtocolSpec("receipts", _NodeReceipts, metrics=METRICS)
