"""Errors of a node in a room of a site."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import json

from app.config.settings import ConsoleSettings, ErrorRoom, Site
from app.console.error_room import MAX_CHARACTERS, MAX_LINES, ErrorSender
from app.core.message import Message
from app.errors import StoreUnavailable
from app.observe import log
from tests.console.visitor import ConsoleNode
from tests.support.store import RecordingReceiver, make_site
from tests.support.valkey import Valkey
from tests.support.waiting import until


class Sent:
    """A sender whose messages are recorded. Lives for one test."""

    def __init__(self) -> None:
        """Nothing is sent yet."""
        self.sites: dict[str, Site] = {"ops": make_site("ops")}
        self.messages: list[Message] = []
        self.error: Exception | None = None
        place = ErrorRoom(site="ops", room="errors")
        self.sender = ErrorSender(place, "n1", self.sites, lambda: 7, self._publish)

    async def _publish(self, message: Message) -> None:
        if self.error is not None:
            raise self.error
        self.messages.append(message)

    def body(self) -> dict[str, Any]:
        """The argument of the only message."""
        (message,) = self.messages
        event, argument = json.decode(message.body)
        assert (event, message.event, message.rooms) == ("log", "log", ("errors",))
        return dict(argument)


async def test_errors_are_sent_together() -> None:
    """The errors since the last message are one message; warnings are none, and without an error none is sent."""
    sent = Sent()
    await sent.sender.send()
    sent.sender.note({"level": "warning", "event": "it may break"})
    await sent.sender.send()
    assert sent.messages == []
    for number in range(MAX_LINES + 3):
        sent.sender.note({"level": "error", "event": f"it broke {number}", "reason": "x" * 5000, "timestamp": "t"})
    await sent.sender.send()
    body = sent.body()
    assert (len(body["lines"]), body["left_out"]) == (MAX_LINES, 3)
    first = body["lines"][0]
    assert (first["event"], first["node"], len(first["reason"])) == ("it broke 0", "n1", MAX_CHARACTERS)
    await sent.sender.send()
    assert len(sent.messages) == 1


@pytest.mark.parametrize("text", ["half \ud800", "nul \0"])
async def test_any_text(text: str) -> None:
    """A text that is no Unicode is sent as far as it is."""
    sent = Sent()
    sent.sender.note({"level": "error", "event": text})
    await sent.sender.send()
    assert len(sent.body()["lines"]) == 1


async def test_failures_are_no_errors() -> None:
    """While Redis is away, or the site is not there, errors are dropped, and later ones are sent."""
    sent = Sent()
    sent.error = StoreUnavailable()
    sent.sender.note({"level": "error", "event": "first"})
    await sent.sender.send()
    sent.error, site = None, sent.sites.pop("ops")
    sent.sender.note({"level": "error", "event": "second"})
    await sent.sender.send()
    sent.sites["ops"] = site
    sent.sender.note({"level": "error", "event": "third"})
    await sent.sender.send()
    assert [line["event"] for line in sent.body()["lines"]] == ["third"]


async def test_a_client_in_the_room_gets_errors(valkey: Valkey) -> None:
    """A device in the room gets an error that the node has logged, without a database too."""
    console = ConsoleSettings(errors_to=ErrorRoom(site="shop", room="errors"))
    node = await ConsoleNode.start(valkey, "none", console=console)
    try:
        receiver = RecordingReceiver()
        connection = node.store.delivery.new_connection(node.sites["shop"], receiver)
        await node.store.delivery.open(connection, "phone", ["user_1", "errors"], lambda: None)
        log._tell(None, "", {"level": "error", "event": "it broke", "reason": "on purpose"})
        await until(lambda: [what for what in receiver.written if b"it broke" in str(what).encode()], "the error")
    finally:
        await node.close()
