"""`DeviceReceiver`: when a `_resync` counts as received."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.core.connection import ConnectionPhase
from app.socketio.device_receiver import DeviceLink, DeviceReceiver
from app.socketio.engine_packet import EncodedPacket


class Client:
    """A client that answers pings when the test says so, and its link."""

    def __init__(self, answers_ahead: bool = True) -> None:
        self.pings: list[Callable[[], None]] = []
        self.heard: list[str] = []
        session = SimpleNamespace(confirm_receipt=self.pings.append, answers_ahead=answers_ahead)
        self.link = SimpleNamespace(session=session, send_encoded=self._hear, transport="websocket", buffered_bytes=0)
        self.receiver = DeviceReceiver(cast(DeviceLink, self.link), b"42/alpha,", with_ack=True)
        self.connection = SimpleNamespace(phase=ConnectionPhase.LIVE)
        self.receiver.connection = cast(Any, self.connection)

    def _hear(self, packet: EncodedPacket) -> None:
        self.heard.append(packet.packet.decode())

    def answer(self) -> None:
        """Answer every ping so far; their callbacks may ask again."""
        asked, self.pings[:] = self.pings[:], []
        for received in asked:
            received()

    def leave(self) -> None:
        """Leave the site."""
        self.connection.phase = ConnectionPhase.CLOSED

    def resync(self, is_repeat: bool) -> list[str]:
        """Send a `_resync`; the list gets a word when it counts as received."""
        settled: list[str] = []
        self.receiver.send_resync(lambda: settled.append("received"), is_repeat)
        assert self.heard[-1] == '42/alpha,["_resync"]'
        return settled


def test_answers_ahead_need_two_rounds() -> None:
    """A `_resync` to a client whose answers run ahead counts as received when it has answered once more."""
    client = Client()
    settled = client.resync(is_repeat=False)
    client.answer()
    assert settled == []
    client.answer()
    assert settled == ["received"]
    client.answer()
    assert settled == ["received"]


def test_a_disconnect_behind_an_answer_that_ran_ahead() -> None:
    """A client whose DISCONNECT comes behind its first answers may have left before them: it is told again."""
    client = Client()
    settled = client.resync(is_repeat=False)
    client.answer()
    client.leave()
    client.answer()
    assert settled == []


one_round = pytest.mark.parametrize(
    ("answers_ahead", "is_repeat"),
    [(False, False), (False, True), (True, True)],
    ids=["in order", "in order, a repeat", "ahead, a repeat"],
)


@one_round
@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves because of it"])
def test_one_round(answers_ahead: bool, is_repeat: bool, leaves: bool) -> None:
    """Any other `_resync` counts as received with the first answers: a page that reloads on it does so once more at
    most."""
    client = Client(answers_ahead)
    settled = client.resync(is_repeat)
    before, behind = client.pings
    before()
    if leaves:
        client.leave()
    behind()
    assert settled == ["received"]


@one_round
def test_a_client_that_left_before_the_resync(answers_ahead: bool, is_repeat: bool) -> None:
    """A client whose DISCONNECT comes before its answers has left before the `_resync`."""
    client = Client(answers_ahead)
    settled = client.resync(is_repeat)
    client.leave()
    client.answer()
    assert settled == []


def test_nobody_is_there() -> None:
    """A link whose client has left gets nothing."""
    client = Client()
    client.receiver.connection = None
    client.receiver.send_resync(lambda: None, is_repeat=False)
    assert client.heard == []
    assert client.pings == []
