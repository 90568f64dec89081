"""The client for pages on a real server: refusals, tickets, tokens that run out, and losses."""

from __future__ import annotations

from tests.clients_js.conftest import Visit
from tests.support.issuer import token_of
from tests.support.tenant import Answer


def test_a_refused_client_comes_back(visit: Visit) -> None:
    """A client that is refused asks for a token again and tries again, each time later, until it is let in."""
    client = visit.begin(tokens=["s3cr3t-unknown", "s3cr3t-unknown", visit.user.token])
    client.wait("connect")
    assert client.seen("refused", "error") == ["Authentication failed"] * 2
    assert client.seen("token", "value") == ["s3cr3t-unknown", "s3cr3t-unknown", visit.user.token]
    visit.send(1)
    client.wait_handled(1)


def test_a_token_that_cannot_be_had(visit: Visit) -> None:
    """A page whose function for the token fails connects without no token: the client asks it again."""
    client = visit.begin(tokens=["!", "!", visit.user.token])
    client.wait("connect")
    assert client.seen("error", "error") == ["as planned"] * 2
    assert client.seen("refused", "error") == []


def test_a_ticket_spares_the_token(visit: Visit) -> None:
    """With a ticket the client comes back without asking the page for a token, and the server does not ask authUrl."""
    client = visit.connect("ticketed")
    client.wait("arrived", event="_settings")
    client.do("drop")
    client.wait("connect", nth=2)
    client.wait("arrived", nth=2, event="_settings")
    assert len(client.seen("token", "value")) == 1
    assert len(visit.tenant.requests_of(visit.user.token)) == 1


def test_a_ticket_that_is_refused_is_dropped(visit: Visit) -> None:
    """A client whose ticket does not count any more, and whose token neither, comes back with another token."""
    other = visit.tenant.user(room=visit.user.room)
    client = visit.connect("ticketed", tokens=[visit.user.token, other.token])
    client.wait("arrived", event="_settings")
    visit.tenant.answer(visit.user.token, Answer(status=401))
    revoked = visit.server.request(
        "DELETE", "/tickets", params={"site": "ticketed", "apiKey": "the-key", "user": visit.user.room}
    )
    assert revoked.status_code == 200, revoked.text
    client.do("drop")
    client.wait("connect", nth=2)
    assert client.seen("token", "value") == [visit.user.token, other.token]
    assert client.seen("refused", "error") == ["Authentication failed"]


def test_a_token_that_runs_out_is_renewed(visit: Visit) -> None:
    """When the server tells that the token runs out, the client hands in the next one on the same connection. A page
    that cannot give one yet is asked again."""
    tokens = [token_of("8", seconds=50), "!", token_of("8", seconds=300)]
    client = visit.connect("club", tokens=tokens, events=["_token_expiring", "news"])
    client.wait("token", nth=3)
    assert client.wait("handled", event="_token_expiring")["args"][0]["expires_in"] <= 50
    visit.server.send("club", "user_8", "news", 1)
    client.wait_handled(1)
    assert client.seen("refused", "error") == []
    assert client.seen("disconnect", "reason") == []


def test_a_token_with_other_rooms(visit: Visit) -> None:
    """A new token with other rooms has the client come back with that token."""
    tokens = [token_of("9", seconds=50), token_of("9", "extra", seconds=300)]
    client = visit.connect("club", tokens=tokens)
    client.wait("connect", nth=2)
    visit.server.send("club", "extra", "news", 1)
    client.wait_handled(1)
    assert set(client.seen("token", "value")) == set(tokens)


def test_resync_runs_reload(visit: Visit) -> None:
    """When the queue ran over, `reload` runs, again when it fails; messages behind the loss wait for it."""
    client = visit.connect("narrow", plans={"news": ["hold"]}, reloads=["!", "fetched"])
    visit.send(*range(7), site="narrow")
    client.wait("arrived", event="_resync")
    client.do("release")
    client.wait("reload", value="fetched")
    visit.send(8, site="narrow")
    client.wait_handled(8)
    visit.wait_waiting(client, 0, "narrow")


def test_a_device_that_was_forgotten_fetches_everything(visit: Visit) -> None:
    """A client that was away for longer than `device_ttl` runs `reload`, although no event tells it of the loss."""
    client = visit.connect("brief", reloads=["fetched"])
    client.wait("arrived", event="_settings")
    client.do("away")
    client.wait("disconnect")
    query = {"site": "brief", "apiKey": "the-key", "user": visit.user.room}
    visit.wait_forgotten(query)
    client.do("back")
    client.wait("reload")
    assert "_resync" not in client.seen("arrived", "event")


def test_a_short_absence_fetches_nothing(visit: Visit) -> None:
    """A client that comes back in time runs no `reload`: what it missed comes as messages."""
    client = visit.connect(reloads=["fetched"])
    client.wait("arrived", event="_settings")
    client.do("drop")
    client.wait("connect", nth=2)
    visit.send(1)
    client.wait_handled(1)
    assert client.seen("reload", "value") == []


def test_close_is_for_good(visit: Visit) -> None:
    """A closed client handles nothing more, and does not come back."""
    client = visit.connect(plans={"news": ["throw"] * 500}, options={"least": 10, "most": 10})
    visit.send(1)
    client.wait("error")
    client.do("close")
    client.wait("disconnect")
    again = visit.connect(options={"deviceId": client.name})
    again.wait_handled(1)
    assert client.seen("handled", "args") == []


def test_a_device_id_is_made(visit: Visit) -> None:
    """Without a place to keep a `deviceId` a client connects all the same."""
    client = visit.connect(options={"deviceId": None})
    visit.send(1)
    client.wait_handled(1)
