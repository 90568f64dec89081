"""An operator sends messages: over the page and over the API, as the site's backend does over /send."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from html import unescape

import pytest
from msgspec import json

from app.ids import FlakeIds
from app.protocols.sites.figures import SitesCounts
from app.protocols.sites.operations import NOBODY, send_operations
from app.protocols.sites.send import SendEndpoint
from tests.console.visitor import SITES, ConsoleNode, bearer
from tests.support.store import StoreNode, heard
from tests.support.valkey import Valkey

PATH = "/sites/shop/send"


@pytest.fixture
async def node(valkey: Valkey, database: str) -> AsyncIterator[ConsoleNode]:
    """A node whose console sends."""
    store = await StoreNode.start(valkey, list(SITES.values()))
    endpoint = SendEndpoint(dict(SITES), store.delivery, FlakeIds(0, 0), 100_000, store.counts)
    node = await ConsoleNode.begin(store, database, send_operations(endpoint, 1337))
    yield node
    await node.close()


async def test_a_message_from_the_page(node: ConsoleNode) -> None:
    """The form's message reaches the device of the room with its arguments as they were typed, and counts as a send.
    The page tells how many got it, keeps what was typed, and the audit has it without the arguments."""
    receiver = await node.store.open(SITES["shop"], "user_1")
    visitor = await node.visitor("ana")
    fields = {"room_lines": "user_1\n\n nobody ", "event": "news", "args": '["hi", 1e400, {"n": 1}]', "collapse": "k"}
    page = await visitor.do("send.message", site="shop", **fields)
    assert page.status_code == 200
    assert "1 recipient." in page.text
    assert 'value="k"' in page.text
    assert (await heard(receiver, 1)) == [b'["news","hi", 1e400, {"n": 1}]']
    assert node.store.counts.of("shop").part(SitesCounts).sends == {"accepted": 1}
    audit = (await visitor.get("/audit")).text
    assert "send.message" in audit
    assert "1e400" not in audit


async def test_nobody_gets_it(node: ConsoleNode) -> None:
    """An answer with 0 recipients is a warning, on the page and over the API."""
    visitor = await node.visitor("ana")
    page = await visitor.do("send.message", site="shop", room_lines="user_1", event="news")
    assert f'role="alert">0 recipients. {NOBODY}' in page.text
    headers = bearer(await node.token("ana"))
    sent = {"rooms": ["user_1"], "event": "news", "args": ["hi"]}
    answer = (await visitor.client.post(f"/api/v1{PATH}", json=sent, headers=headers)).json()
    assert (answer["ok"], answer["recipients"], answer["warning"]) == (True, 0, NOBODY)
    assert answer["id"].isdigit()


async def test_the_curl_line_is_the_same_request(node: ConsoleNode) -> None:
    """The line holds the whole request, each word quoted for a shell; in place of the key stands a variable."""
    headers = bearer(await _token(node))
    sent = {"rooms": ["user_1's `x`$(y)"], "event": "a'b", "args": ['"; rm -rf $HOME'], "ttl": 5, "id": True}
    sent |= {"idempotency_key": "k'1", "is_dry": True, "settle": "user"}
    answer = (await node.client().post(f"/api/v1{PATH}", json=sent, headers=headers)).json()
    words = shlex.split(answer["curl"].replace("\\\n", ""))
    assert words[:2] == ["curl", "http://localhost:1337/send?site=shop&ttl=5&settle=user&id=true"]
    assert words[2:4] == ["-H", "X-API-Key: $API_KEY"]
    assert "Idempotency-Key: k'1" in words
    assert json.decode(words[-1]) == {"rooms": sent["rooms"], "event": "a'b", "args": sent["args"]}
    assert SITES["shop"].api_key not in answer["curl"]


async def test_a_dry_run_sends_nothing(node: ConsoleNode) -> None:
    """A message that is only checked is judged, and neither sent nor counted."""
    visitor = await node.visitor("ana")
    fields = {"site": "shop", "room_lines": "user_1", "event": "news", "is_dry": "true"}
    page = await visitor.do("send.message", **fields)
    assert "Nothing was sent." in page.text
    assert "Nothing was sent." not in (await visitor.do("send.message", **fields, ttl="0")).text
    assert not [key for key in await _keys(node) if b"seq" in key]
    assert node.store.counts.of("shop").part(SitesCounts).sends == {"refused": 1}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "rooms: expected a room."),
        ({"room_lines": " \n "}, "rooms: expected a room."),
        ({"room_lines": "user_1"}, "event: expected the name of an event."),
        ({"room_lines": "user_1", "event": "_resync"}, "event: _resync is reserved."),
        ({"room_lines": "r", "event": "e", "args": "hello"}, "args: expected a JSON list"),
        ({"room_lines": "r", "event": "e", "args": '1],"ttl":[5'}, "args: expected a JSON list"),
        ({"room_lines": "r", "event": "e", "args": "[" * 50_000}, "args: expected a JSON list"),
        ({"room_lines": "r", "event": "e", "ttl": "0"}, "ttl: expected whole seconds from 1 to 2592000."),
        ({"room_lines": "r", "event": "e", "wait": "all", "timeout": "9"}, "timeout: expected a whole number <= 8."),
        ({"room_lines": "r", "event": "e", "notify": "acked"}, "notify: expected a site whose webhook has the event"),
        ({"room_lines": "r", "event": "e", "idempotency_key": "\u00e9"}, "Idempotency-Key: expected 1 to 128"),
    ],
)
async def test_what_is_refused(node: ConsoleNode, fields: dict[str, str], text: str) -> None:
    """A message that /send would refuse is refused with its words, and the form keeps what was typed."""
    visitor = await node.visitor("ana")
    page = await visitor.do("send.message", site="shop", **fields)
    assert page.status_code == 400
    alert = page.text.partition('role="alert">')[2].partition("<")[0]
    assert unescape(alert).startswith(text)
    if "event" in fields:
        assert f'name="event" type="text" value="{fields["event"]}"' in page.text


async def test_texts_are_no_markup(node: ConsoleNode) -> None:
    """The texts of an operator come back as text, never as markup."""
    visitor = await node.visitor("ana")
    script = '"><script>alert(1)</script>'
    fields = {"room_lines": script, "event": script, "args": f'["</textarea>{script[2:]}"]', "collapse": script}
    page = await visitor.do("send.message", site="shop", **fields)
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert page.text.count("</textarea>") == 2


async def test_wait_and_idempotency(node: ConsoleNode) -> None:
    """With `wait` the page tells of acks; a second request with the same key sends nothing, and says so."""
    receiver = await node.store.open(SITES["shop"], "user_1")
    visitor = await node.visitor("ana")
    fields = {"site": "shop", "room_lines": "user_1", "event": "news", "wait": "all", "timeout": "1"}
    fields["idempotency_key"] = "k"
    assert "0 acknowledged in time, 1 did not." in (await visitor.do("send.message", **fields)).text
    assert "nothing was sent now" in (await visitor.do("send.message", **fields)).text
    assert len(receiver.bodies) == 1
    other = await visitor.do("send.message", **{**fields, "event": "other"})
    assert (other.status_code, "Idempotency-Key: expected the request" in other.text) == (422, True)


async def test_keys_are_for_administrators(node: ConsoleNode) -> None:
    """Viewers have no page Send. The page of an operator shows no key and leads to none."""
    viewer = await node.visitor("vera", "viewer")
    assert (await viewer.get(PATH)).status_code == 403
    assert "/send" not in (await viewer.get("/tokens")).text
    operator = await node.visitor("ben", "operator")
    page = await operator.do("send.message", site="shop", room_lines="user_1", event="news")
    assert "API_KEY" in page.text
    assert SITES["shop"].api_key not in page.text
    assert "show_keys" not in page.text


async def _token(node: ConsoleNode) -> str:
    await node.visitor("ana")
    return await node.token("ana")


async def _keys(node: ConsoleNode) -> list[bytes]:
    keys: list[bytes] = await node.store.redis.command("KEYS", "*")
    return keys
