"""The client for pages on a real server: the order of handlers, and when a message is acknowledged."""

from __future__ import annotations

import pytest

from tests.clients_js.conftest import Visit
from tests.support.page_clients import PageClient


def test_a_message_is_acknowledged_behind_its_handler(visit: Visit) -> None:
    """A message is in the queue while its handler runs, and the next one waits for it."""
    client = visit.connect(plans={"news": ["hold"]})
    visit.send(1, 2)
    client.wait("began", args=[1])
    assert visit.waiting(client) == 2
    assert client.seen("began", "args") == [[1]]
    client.do("release")
    assert client.wait_handled(2) == [[1], [2]]
    visit.wait_waiting(client, 0)


def test_a_batch_reaches_handlers_like_live_messages(visit: Visit) -> None:
    """Messages of a `_batch` come one by one and in order, with one ack behind the last; live ones follow."""
    client = visit.connect(plans={"news": ["go", "go", "hold"]})
    client.do("away")
    client.wait("disconnect")
    visit.send(1, 2, 3)
    client.do("back")
    client.wait("began", args=[3])
    assert visit.waiting(client) == 3
    visit.send(4)
    client.do("release")
    assert client.wait_handled(4) == [[1], [2], [3], [4]]
    visit.wait_waiting(client, 0)


def test_all_parts_of_a_long_queue_come(visit: Visit) -> None:
    """A queue in several batches comes whole and in order."""
    client = visit.connect("parts")
    client.do("away")
    client.wait("disconnect")
    visit.send(*range(10), site="parts")
    client.do("back")
    assert client.wait_handled(9) == [[number] for number in range(10)]
    visit.wait_waiting(client, 0, "parts")


@pytest.mark.parametrize("is_away", [False, True], ids=["live", "batch"])
def test_a_message_whose_handler_fails_comes_again(visit: Visit, is_away: bool) -> None:
    """A message whose handler has thrown is not acknowledged, does not hold up the next, and comes again."""
    client = visit.connect(plans={"news": ["hold", "throw", "go", "hold"]})
    send_together(visit, client, is_away)
    assert client.wait("error", event="news")["error"] == "as planned"
    assert client.wait_handled(2) == [[0], [2]]
    client.wait("began", nth=2, args=[1])
    visit.wait_waiting(client, 3 if is_away else 1)
    client.do("release")
    assert client.wait_handled(1) == [[0], [2], [1]]
    visit.wait_waiting(client, 0)


@pytest.mark.parametrize("is_away", [False, True], ids=["live", "batch"])
def test_a_message_that_always_fails_is_given_up(visit: Visit, is_away: bool) -> None:
    """Behind the last try `failed` stands for the message: it is acknowledged, so the queue goes on."""
    plan = ["hold", "throw", "go", "throw", "throw"]
    client = visit.connect(plans={"news": plan}, failures=True, options={"tries": 3})
    send_together(visit, client, is_away)
    failure = client.wait("failed")
    assert (failure["error"], failure["event"], failure["args"]) == ("as planned", "news", [1])
    assert client.seen("began", "args") == [[0], [1], [2], [1], [1]]
    visit.wait_waiting(client, 0)


def test_without_failed_everything_is_fetched(visit: Visit) -> None:
    """Where the page has no `failed`, a message that always fails has `reload` run. While that fails as well, the
    message stays in the queue and is tried again."""
    client = visit.connect(plans={"news": ["throw"] * 3}, reloads=["!", "fetched"], options={"tries": 2})
    visit.send(1)
    client.wait("reload", value="!")
    client.wait("reload", value="fetched")
    assert client.seen("began", "args") == [[1], [1], [1]]
    visit.wait_waiting(client, 0)


def test_without_both_a_message_stays_in_the_queue(visit: Visit) -> None:
    """Where the page has neither, a message is tried until it succeeds, however often it fails."""
    client = visit.connect(plans={"news": ["throw"] * 5}, options={"tries": 2})
    visit.send(1)
    client.wait("began", nth=5)
    assert visit.waiting(client) == 1
    client.wait_handled(1)
    visit.wait_waiting(client, 0)


@pytest.mark.parametrize("is_away", [False, True], ids=["live", "batch"])
def test_a_handler_that_hangs_holds_up_nothing(visit: Visit, is_away: bool) -> None:
    """A handler that never resolves counts as failed after `timeout`: the next message is handled, this one again."""
    client = visit.connect(plans={"news": ["hang", "hang"]}, options={"timeout": 200})
    if is_away:
        client.do("away")
        client.wait("disconnect")
    visit.send(1, 2, 3)
    if is_away:
        client.do("back")
    assert client.wait("error", event="news")["error"] == "recado: not done in time"
    for number in (1, 2, 3):
        client.wait_handled(number)
    visit.wait_waiting(client, 0)


def test_a_repeat_is_dropped_and_acknowledged(visit: Visit) -> None:
    """A message whose handler still runs when the connection breaks comes again in `_batch`, and is not handled
    again."""
    client = visit.connect(plans={"news": ["hold", "hold"]})
    visit.send(1)
    client.wait("began", args=[1])
    client.do("drop")
    client.wait("connect", nth=2)
    visit.send(2)
    client.do("release")
    client.wait("began", args=[2])
    client.do("drop")
    client.wait("connect", nth=3)
    visit.send(3)
    client.do("release")
    assert client.wait_handled(3) == [[1], [2], [3]]
    visit.wait_waiting(client, 0)
    assert client.seen("began", "args") == [[1], [2], [3]]


def test_an_old_ack_is_none_for_a_new_batch(visit: Visit) -> None:
    """A batch whose handlers end on a later connection is not acknowledged there: the batch there has the same number,
    and a message in it that was not handled yet is not lost."""
    client = visit.connect(plans={"news": ["hold", "hold"]})
    for number in (1, 2):
        client.do("away")
        client.wait("disconnect", nth=number)
        visit.send(number)
        client.do("back")
        client.wait("arrived", nth=number, event="_batch")
        client.wait("began", args=[1])
    client.do("release")
    client.wait("began", args=[2])
    client.do("close")
    client.wait("disconnect", nth=3)
    again = visit.connect(options={"deviceId": client.name})
    again.wait_handled(2)


def test_positions_grow(visit: Visit) -> None:
    """Each message tells its position, live and in `_batch`; events of the server have none."""
    client = visit.connect(events=["news", "_settings"])
    visit.send(1)
    client.wait_handled(1)
    client.do("away")
    client.wait("disconnect")
    visit.send(2, 3)
    client.do("back")
    client.wait_handled(3)
    positions = [note.details.get("position") for note in client.notes.snapshot() if note.kind == "handled"]
    assert [position is None for position in positions] == [True, False, True, False, False]
    numbers = [position for position in positions if position is not None]
    assert numbers == sorted(set(numbers))


def test_other_events(visit: Visit) -> None:
    """Events of the server reach their handlers; "*" gets messages without a handler, and no event of the server. A
    message that no handler wants is acknowledged."""
    client = visit.connect(events=["*", "_withdraw", "news"], plans={"news": ["hold"]})
    unwanted = visit.connect(events=["news"])
    visit.send(1, event="other")
    assert client.wait("handled", event="other")["args"] == [1]
    visit.wait_waiting(unwanted, 0)
    sent = visit.server.try_send("shop", {"rooms": visit.user.room, "event": "news", "args": [2], "id": True})
    client.wait("began", event="news")
    query = {"site": "shop", "apiKey": "the-key"}
    assert visit.server.request("DELETE", f"/messages/{sent.headers['x-message-id']}", params=query).status_code == 200
    client.do("release")
    assert client.wait("handled", event="_withdraw")["args"] == [{"id": sent.headers["x-message-id"]}]
    assert client.seen("handled", "event") == ["other", "news", "_withdraw"]


def test_a_site_without_queues(visit: Visit) -> None:
    """On a site without queues, messages reach the handlers in order; there is nothing to acknowledge."""
    client = visit.connect("plain")
    visit.send(1, 2, site="plain")
    assert client.wait_handled(2) == [[1], [2]]


def send_together(visit: Visit, client: PageClient, is_away: bool) -> None:
    """Send 0, 1 and 2, live or while the client is away; the handler of 0, which holds, goes on when all are there."""
    if is_away:
        client.do("away")
        client.wait("disconnect")
    visit.send(0, 1, 2)
    if is_away:
        client.do("back")
    client.wait("began", args=[0])
    client.wait("arrived", nth=1 if is_away else 3, event="_batch" if is_away else "news")
    client.do("release")
