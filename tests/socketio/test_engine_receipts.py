"""Open questions of a session: which pong answers which."""

from app.socketio.engine_receipts import Receipts


def test_answers_come_in_the_order_of_the_questions() -> None:
    """Each pong answers the oldest question; one too many answers nothing."""
    heard: list[str] = []
    receipts = Receipts(has_heartbeat_open=False)
    receipts.ask(lambda: heard.append("a"))
    receipts.ask(lambda: heard.append("b"))
    assert receipts.is_waiting
    assert receipts.answer()
    assert heard == ["a"]
    assert receipts.answer()
    assert heard == ["a", "b"]
    assert not receipts.is_waiting
    assert not receipts.answer()


def test_a_pong_of_the_heartbeat_answers_nobody() -> None:
    """An earlier ping of the heartbeat is answered first; its pong proves nothing about later packets."""
    heard: list[str] = []
    receipts = Receipts(has_heartbeat_open=True)
    receipts.ask(lambda: heard.append("a"))
    receipts.ask(None)
    receipts.ask(lambda: heard.append("b"))
    assert not receipts.answer()
    assert heard == []
    assert receipts.answer()
    assert not receipts.answer()
    assert heard == ["a"]
    assert receipts.answer()
    assert heard == ["a", "b"]


def test_the_next_poll_answers_what_the_last_payload_carried() -> None:
    """Without pings a new poll proves the answer before it, and nothing that was asked since."""
    heard: list[str] = []
    receipts = Receipts(has_heartbeat_open=False)
    receipts.ask(lambda: heard.append("a"))
    receipts.poll_received()
    assert heard == []
    receipts.payload_fetched()
    receipts.ask(lambda: heard.append("b"))
    receipts.poll_received()
    assert heard == ["a"]
    receipts.poll_received()
    assert heard == ["a"]
