"""POST /send through its ASGI callable, on a real Valkey: every line of its section in docs/backends.md."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.config.settings import SiteLimits
from app.ids import FlakeIds
from app.observe import counted_lines
from app.protocols.reading import MOST_BODIES_WAITING
from app.protocols.site_keys import INVALID, MISSING
from app.protocols.sites.send import SendEndpoint
from app.store.keys import prefix
from tests.support.store import StoreNode, heard, make_site, queue_of
from tests.support.valkey import Valkey

KEY = "54321-secret"
SITE = make_site("newsite", api_key=KEY)
PLAIN = make_site("plain", api_key=KEY, user_room_prefix=None)
BOUND = make_site("bound", api_key=KEY, limits=SiteLimits(sends_per_second=0.5, sends_burst=2, message_bytes=40))
SITES = {site.name: site for site in (SITE, PLAIN, BOUND)}
QUERY = f"site=newsite&apiKey={KEY}"
BODY = b'{"rooms":["user_1"],"event":"news","args":[1]}'
MAX_BODY_BYTES = 1_000


@dataclass
class Answer:
    """The answer to a request."""

    status: int
    headers: dict[str, str]
    body: bytes


async def ask(
    endpoint: SendEndpoint,
    body: bytes | Sequence[bytes] = BODY,
    query: str | bytes = QUERY,
    headers: Mapping[str, str] | None = None,
    method: str = "POST",
    path: str = "/send",
) -> Answer:
    """Makes one request, with its body in one part or several. A part None means that the client goes away."""
    parts = [body] if isinstance(body, bytes) else list(body)
    events: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]
    return await exchange(endpoint, events, query, headers or {}, method, path)


async def exchange(
    endpoint: SendEndpoint,
    events: list[MutableMapping[str, Any]],
    query: str | bytes,
    headers: Mapping[str, str],
    method: str = "POST",
    path: str = "/send",
) -> Answer:
    """Makes one request as a server hands it over."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        if not events:
            await asyncio.get_running_loop().create_future()
        return events.pop(0)

    async def send(event: MutableMapping[str, Any]) -> None:
        sent.append(event)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query if isinstance(query, bytes) else query.encode(),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
    }
    await endpoint(scope, receive, send)
    start, content = sent
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    assert int(answered["content-length"]) == len(content["body"])
    return Answer(start["status"], answered, content["body"])


@pytest.fixture
async def node(valkey: Valkey) -> AsyncIterator[StoreNode]:
    """A node with both sites."""
    node = await StoreNode.start(valkey, list(SITES.values()))
    yield node
    await node.close()


@pytest.fixture
def endpoint(node: StoreNode) -> SendEndpoint:
    """The endpoint."""
    return SendEndpoint(SITES, node.delivery, FlakeIds(1, 1), MAX_BODY_BYTES)


async def test_accepted_message_is_stored(endpoint: SendEndpoint, node: StoreNode, valkey: Valkey) -> None:
    """The answer is 200 and `OK` as plain text once every queue holds the message. A connected device gets the
    message."""
    receiver = await node.open(SITE, "user_1")
    answer = await ask(endpoint)
    assert (answer.status, answer.body) == (200, b"OK")
    assert answer.headers["content-type"].startswith("text/plain")
    assert queue_of(valkey, SITE) == ['["news",1]']
    assert await heard(receiver, 1) == [b'["news",1]']


async def test_answer_as_json(endpoint: SendEndpoint, node: StoreNode) -> None:
    """With `Accept: application/json` the answer is JSON with the id, as text, and the number of devices with the
    message."""
    await node.open(SITE, "user_1", "a")
    await node.open(SITE, "user_1", "b")
    answer = await ask(endpoint, headers={"accept": "application/json, */*"})
    assert answer.headers["content-type"] == "application/json"
    content = json.loads(answer.body)
    assert int(content.pop("id")) > 2**60
    assert content == {"ok": True, "recipients": 2}
    refusal = await ask(endpoint, b"{}", headers={"accept": "application/json"})
    assert json.loads(refusal.body) == {
        "ok": False,
        "error": "rooms: expected a room or a list of rooms.",
        "code": "bad_request",
    }


@pytest.mark.parametrize("query", ["", "site=newsite", f"apiKey={KEY}", f"site=&apiKey={KEY}", "site=newsite&apiKey="])
async def test_missing_site_or_key(endpoint: SendEndpoint, query: str) -> None:
    """A request without a site or a key gets 400 with the text of the original server."""
    answer = await ask(endpoint, query=query)
    assert (answer.status, answer.body.decode()) == (400, MISSING)
    assert MISSING == "Missing query param 'site' or 'apiKey'."


@pytest.mark.parametrize(
    "query",
    [
        "site=newsite&apiKey=wrong",
        f"site=unknown&apiKey={KEY}",
        f"site=newsite&apiKey={KEY}x",
        f"site=NEWSITE&apiKey={KEY}",
        f"site=newsite&apiKey={KEY[:-1]}",
        "site=newsite&apiKey=%ff%00",
        "site=%ff&apiKey=x",
        f"site=newsite&apiKey=%20{KEY}",
    ],
)
async def test_wrong_site_or_key(endpoint: SendEndpoint, query: str) -> None:
    """A wrong key and an unknown site get the same answer, which gives no hint. The body is not even read."""
    answer = await exchange(endpoint, [], query, {})
    assert (answer.status, answer.body.decode()) == (401, INVALID)
    assert INVALID == "ApiKey invalid."


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY} "},
        {"x-api-key": KEY},
        {"x-api-key": KEY, "authorization": "Basic abc"},
    ],
)
async def test_key_in_a_header(endpoint: SendEndpoint, headers: dict[str, str]) -> None:
    """The key is also accepted as a bearer token or X-API-Key."""
    assert (await ask(endpoint, query="site=newsite", headers=headers)).status == 200


@pytest.mark.parametrize(
    "headers",
    [{"authorization": f"Basic {KEY}"}, {"authorization": KEY}, {"authorization": "Bearer"}, {"x-api-key": ""}],
)
async def test_no_key_in_the_headers(endpoint: SendEndpoint, headers: dict[str, str]) -> None:
    """Other headers do not count as a key."""
    assert (await ask(endpoint, query="site=newsite", headers=headers)).status == 400


async def test_key_of_the_query_counts(endpoint: SendEndpoint) -> None:
    """A right key in a header does not replace a wrong key in the query."""
    answer = await ask(endpoint, query="site=newsite&apiKey=wrong", headers={"x-api-key": KEY})
    assert answer.status == 401


async def test_keys_are_compared_as_text(node: StoreNode) -> None:
    """A key that is a number in YAML, or is not ASCII, is compared as text."""
    sites = {"n": make_site("n", api_key="007"), "u": make_site("u", api_key="schlüssel ☃")}
    endpoint = SendEndpoint(sites, node.delivery, FlakeIds(1, 1), MAX_BODY_BYTES)
    assert (await ask(endpoint, query="site=n&apiKey=007")).status == 200
    assert (await ask(endpoint, query="site=n&apiKey=7")).status == 401
    assert (await ask(endpoint, query="site=u&apiKey=schl%C3%BCssel+%E2%98%83")).status == 200


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"event":"e"}', "rooms"),
        (b'{"rooms":null,"event":"e"}', "rooms"),
        (b'{"rooms":["r"]}', "event"),
        (b'{"rooms":["r"],"event":"_batch"}', "_batch is reserved"),
        (b'{"rooms":["r"],"event":"_resync"}', "_resync is reserved"),
        (b'{"rooms":["r"],"event":"_settings"}', "_settings is reserved"),
        (b'{"rooms":', "JSON"),
        (b"", "JSON"),
        (b'{"rooms":true,"event":"e"}', "rooms"),
    ],
)
async def test_bad_body(endpoint: SendEndpoint, body: bytes, reason: str) -> None:
    """A bad body gets 400 with the reason."""
    answer = await ask(endpoint, body)
    assert answer.status == 400
    assert reason in answer.body.decode()


async def test_form_body(endpoint: SendEndpoint, node: StoreNode, valkey: Valkey) -> None:
    """A form is read like JSON."""
    await node.open(SITE, "user_1")
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = await ask(endpoint, b"rooms[]=user_1&event=news&args[0]=x&args[1][id]=1", headers=headers)
    assert answer.status == 200
    assert queue_of(valkey, SITE) == ['["news","x",{"id":"1"}]']


async def test_large_bodies(endpoint: SendEndpoint) -> None:
    """A body past the bound gets 413: by its announced length, by the bytes that arrive, and by its size when
    stored."""
    body = BODY.ljust(MAX_BODY_BYTES)
    assert (await ask(endpoint, body, headers={"content-length": str(len(body))})).status == 200
    announced = await exchange(endpoint, [], QUERY, {"content-length": str(MAX_BODY_BYTES + 1)})
    assert announced.status == 413
    assert str(MAX_BODY_BYTES) in announced.body.decode()
    counted = await ask(endpoint, [b"x" * 400] * 100)
    assert counted.status == 413
    form = b"rooms=r&event=e&args[]=" + b"&args[]=".join([b""] * 110)
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert len(form) < MAX_BODY_BYTES
    assert (await ask(endpoint, form, headers=headers)).status == 200
    quoted = b'{"rooms":"r","event":"' + b"\x7f" * 900 + b'"}'
    assert (await ask(endpoint, quoted)).status in (200, 413)


async def test_body_in_parts(endpoint: SendEndpoint, node: StoreNode, valkey: Valkey) -> None:
    """A body is joined from its parts, also from empty parts."""
    await node.open(SITE, "user_1")
    assert (await ask(endpoint, [BODY[:5], b"", BODY[5:]])).status == 200
    assert queue_of(valkey, SITE) == ['["news",1]']


async def test_client_that_goes_in_the_middle(endpoint: SendEndpoint, node: StoreNode, valkey: Valkey) -> None:
    """A request that breaks off is not read as a shorter complete request."""
    await node.open(SITE, "user_1")
    events: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": BODY, "more_body": True},
        {"type": "http.disconnect"},
    ]
    assert (await exchange(endpoint, events, QUERY, {})).status == 400
    assert queue_of(valkey, SITE) == []


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE"])
async def test_other_methods(endpoint: SendEndpoint, method: str) -> None:
    """Another method gets 405 with the method that works."""
    answer = await ask(endpoint, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_send_that_reaches_no_one(endpoint: SendEndpoint, valkey: Valkey) -> None:
    """A send without rooms, without users in them or without devices gets 200, and nothing is kept."""
    for rooms in ("[]", '["user_1"]', '"nobody"'):
        assert (await ask(endpoint, f'{{"rooms":{rooms},"event":"e"}}'.encode())).status == 200
    assert {key.rpartition(":")[2] for key in valkey.dump()} == {"seq"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "0"),
        ("&resync=false", "0"),
        ("&resync=FALSE", "0"),
        ("&resync=0", "0"),
        ("&resync=", "0"),
        ("&resync=true", "1"),
        ("&resync=1", "1"),
        ("&resync=True", "1"),
    ],
)
async def test_resync(endpoint: SendEndpoint, node: StoreNode, valkey: Valkey, query: str, expected: str) -> None:
    """`resync` of the query is kept with the message."""
    await node.open(SITE, "user_1")
    await ask(endpoint, query=QUERY + query)
    (body,) = [value for key, value in valkey.dump().items() if ":body:" in key]
    assert body["resync"] == expected


async def test_rooms_stand_for_users(endpoint: SendEndpoint, node: StoreNode, valkey: Valkey) -> None:
    """A shared room, in any case of letters, stands for its users. Each device gets the message once."""
    await node.open(SITE, ["user_1", "News", "All"])
    await ask(endpoint, b'{"rooms":["NEWS","all","user_1"],"event":"e","args":[]}')
    assert queue_of(valkey, SITE) == ['["e"]']


async def test_site_without_queues(endpoint: SendEndpoint, node: StoreNode, valkey: Valkey) -> None:
    """On a site without queues the event goes to the sockets that are in the rooms now. Nothing is kept."""
    receiver = await node.open(PLAIN, "user_1")
    assert (await ask(endpoint, query=f"site=plain&apiKey={KEY}")).status == 200
    assert await heard(receiver, 1) == [b'["news",1]']
    assert not [key for key in valkey.dump() if "body" in key or "queue" in key]


async def test_over_the_rate(endpoint: SendEndpoint, valkey: Valkey) -> None:
    """Over the rate a send gets 429 with Retry-After and the allowed rate. Nothing is stored; other sites are not
    affected."""
    query = f"site=bound&apiKey={KEY}"
    assert [(await ask(endpoint, query=query)).status for _ in range(2)] == [200, 200]
    seq = valkey.client.get(prefix("bound") + "seq")
    answer = await ask(endpoint, query=query)
    assert (answer.status, answer.headers["retry-after"]) == (429, "2")
    assert answer.body == b"Too many messages: this site may send 0.5 a second, try again."
    as_json = await ask(endpoint, query=query, headers={"accept": "application/json"})
    assert json.loads(as_json.body) == {
        "ok": False,
        "error": answer.body.decode(),
        "code": "sends_per_second",
    }
    assert valkey.client.get(prefix("bound") + "seq") == seq
    assert (await ask(endpoint)).status == 200


async def test_over_the_message_limit(endpoint: SendEndpoint, valkey: Valkey) -> None:
    """A message over the limit gets 413 with the limit, and does not count as sent."""
    body = b'{"rooms":["user_1"],"event":"news","args":["123456789012345678901234567890"]}'
    for _ in range(3):
        answer = await ask(endpoint, body, f"site=bound&apiKey={KEY}")
        assert (answer.status, answer.body) == (413, b"Message: expected at most 40 bytes as JSON, got 41.")
        assert "retry-after" not in answer.headers
    assert (await ask(endpoint, query=f"site=bound&apiKey={KEY}")).status == 200


async def test_redis_away(endpoint: SendEndpoint, node: StoreNode) -> None:
    """While Redis is away a send gets 503 with Retry-After: the message is not stored."""
    await node.redis.close()
    for accept in ("*/*", "application/json"):
        answer = await ask(endpoint, headers={"accept": accept})
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        assert b"not stored" in answer.body


async def test_redis_that_stops_answering(node: StoreNode, endpoint: SendEndpoint, valkey: Valkey) -> None:
    """A send gets 503 within the time-out of the link. A command that was given up is not applied later."""
    node.redis.timeout_seconds = 0.5
    await node.open(SITE, "user_1")
    loop = asyncio.get_running_loop()
    valkey.suspend()
    try:
        began_at = loop.time()
        answer = await ask(endpoint)
        assert loop.time() - began_at < 20
    finally:
        valkey.resume()
    assert answer.status == 503


async def test_store_that_refuses(endpoint: SendEndpoint, valkey: Valkey) -> None:
    """When Redis holds a wrong value, a send gets 500 with a plain sentence that shows nothing of Redis."""
    valkey.client.rpush(prefix("newsite") + "seq", "no number")
    answer = await ask(endpoint)
    assert (answer.status, answer.body) == (500, b"The message is not stored.")
    assert "retry-after" not in answer.headers


async def test_log_names_the_site_and_no_secret(endpoint: SendEndpoint, node: StoreNode) -> None:
    """A log line names the message without its content. A line about a refusal names the site without any key."""
    with capture_logs() as lines:
        await ask(endpoint, b'{"rooms":["user_1"],"event":"news","args":["private"]}')
        await ask(endpoint, query="site=newsite&apiKey=wrong-secret")
        await ask(endpoint, query=f"site=guessed-name&apiKey={KEY}")
    assert [(line["event"], line["site"]) for line in lines] == [
        ("message stored", "newsite"),
        ("send refused", "newsite"),
        ("send refused", None),
    ]
    assert not any(secret in str(lines) for secret in ("private", KEY, "wrong-secret", "guessed-name"))


def test_random_requests(shared_valkey: Valkey) -> None:
    """Any request of a client gets an answer of the contract and never an exception."""
    with asyncio.Runner() as runner:
        node = runner.run(StoreNode.start(shared_valkey, list(SITES.values())))
        endpoint = SendEndpoint(SITES, node.delivery, FlakeIds(1, 1), MAX_BODY_BYTES)
        queries = st.binary(max_size=60) | st.binary(max_size=30).map(lambda more: QUERY.encode() + b"&" + more)
        names = st.sampled_from(["content-type", "content-length", "authorization", "x-api-key", "accept"])
        values = st.text(alphabet=st.characters(max_codepoint=255), max_size=30) | st.sampled_from(
            ["application/json", "application/x-www-form-urlencoded", "Bearer ", "99999999999999999999"]
        )

        @given(queries, st.dictionaries(names, values), st.lists(st.binary(max_size=80), min_size=1, max_size=3))
        @settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
        def answers(query: bytes, headers: dict[str, str], parts: list[bytes]) -> None:
            answer = runner.run(ask(endpoint, parts, query, headers))
            assert answer.status in (200, 400, 401, 413)

        try:
            answers()
        finally:
            runner.run(node.close())


async def test_long_bodies_wait_for_their_turn(endpoint: SendEndpoint, node: StoreNode) -> None:
    """Long bodies of a site are read one at a time; those past the row get 429 with Retry-After, and are counted."""
    endpoint = SendEndpoint(SITES, node.delivery, FlakeIds(1, 1), 10_000)
    form = b"rooms=user_1&event=e&" + b"&".join([b"args[]=1"] * 600)
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answers = await asyncio.gather(*(ask(endpoint, form, headers=headers) for _ in range(MOST_BODIES_WAITING + 5)))
    assert Counter(answer.status for answer in answers) == {200: MOST_BODIES_WAITING + 1, 429: 4}
    assert {answer.headers.get("retry-after") for answer in answers if answer.status == 429} == {"1"}


async def test_wrong_keys_are_counted_in_the_log(endpoint: SendEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that tries a thousand keys writes one line at once, and one a second with their number."""
    monkeypatch.setattr(counted_lines, "WINDOW_SECONDS", 60.0)
    with capture_logs() as lines:
        for number in range(100):
            assert (await ask(endpoint, query=f"site=newsite&apiKey=wrong{number}")).status == 401
            await ask(endpoint, query=f"site=unknown{number}&apiKey=wrong")
    assert [(line["event"], line["site"], line["reason"]) for line in lines] == [
        ("send refused", "newsite", "wrong key"),
        ("send refused", None, "unknown site"),
    ]


# Ids, idempotency keys, waiting and batches


async def test_the_id_of_a_message(endpoint: SendEndpoint, node: StoreNode) -> None:
    """Every 200 has the message's id; with `id=true` the client gets it as one more argument."""
    receiver = await node.open(SITE, "user_1")
    answer = await ask(endpoint, query=f"{QUERY}&id=true")
    (body,) = await heard(receiver, 1)
    event, first, note = json.loads(body)
    assert (event, first, note["id"]) == ("news", 1, answer.headers["x-message-id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", note["at"])
    assert "x-message-id" not in (await ask(endpoint, b"{}")).headers


async def test_idempotency_keys(endpoint: SendEndpoint, node: StoreNode) -> None:
    """The same request with the same key is answered as the first was, and stores nothing; another one gets 422."""
    receiver = await node.open(SITE, "user_1")
    headers = {"idempotency-key": "order 5", "accept": "application/json"}
    first = await ask(endpoint, headers=headers)
    again = await ask(endpoint, headers=headers, query=f"site=newsite&apiKey={KEY}")
    assert "idempotent-replayed" not in first.headers
    assert (again.body, again.headers["idempotent-replayed"]) == (first.body, "true")
    for query, body in ((f"{QUERY}&ttl=5", BODY), (QUERY, BODY.replace(b"[1]", b"[2]")), (f"{QUERY}&resync=1", BODY)):
        other = await ask(endpoint, body, query, headers)
        assert (other.status, json.loads(other.body)["code"]) == (422, "idempotency_key_reused")
    refused = await ask(endpoint, b"{}", headers={"idempotency-key": "fresh"})
    assert refused.status == 400
    assert (await ask(endpoint, headers={"idempotency-key": "fresh"})).status == 200
    assert len(await heard(receiver, 2)) == 2
    for key in ("", "k" * 129, "caf\xe9"):
        assert (await ask(endpoint, headers={"idempotency-key": key})).status == 400


async def test_waiting_for_acks(endpoint: SendEndpoint, node: StoreNode) -> None:
    """With `wait` the answer comes behind the acks, and tells how many there are."""
    receiver = await node.open(SITE, "user_1")
    receiver.on_write = lambda what: node.ack(receiver, what[1]) if what[0] == "event" else None
    answer = await ask(endpoint, query=f"{QUERY}&wait=all&timeout=30", headers={"accept": "application/json"})
    content = json.loads(answer.body)
    assert (content["recipients"], content["acked"], content["waiting"]) == (1, 1, 0)


async def test_a_batch(endpoint: SendEndpoint, node: StoreNode) -> None:
    """The messages of a batch arrive in their order; each has its answer, a wrong one its error and status."""
    receiver = await node.open(SITE, "user_1")
    batch = [
        {"rooms": ["user_1"], "event": "a", "args": [1]},
        {"event": "b"},
        {"rooms": "user_1", "event": "c", "args": [3], "ttl": 5},
        {"rooms": "user_1", "event": "d", "wait": "any"},
    ]
    body, headers = json.dumps(batch).encode(), {"idempotency-key": "batch"}
    answer = await ask(endpoint, body, headers=headers, path="/send/batch")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    content = json.loads(answer.body)
    assert [one.get("status") for one in content] == [None, 400, None, 400]
    assert content[1]["error"] == "rooms: expected a room or a list of rooms."
    assert await heard(receiver, 2) == [b'["a",1]', b'["c",3]']
    again = await ask(endpoint, body, headers=headers, path="/send/batch")
    assert (json.loads(again.body), again.headers["idempotent-replayed"]) == (content, "true")
    other = await ask(endpoint, body.replace(b"3", b"4"), headers=headers, path="/send/batch")
    assert (other.status, len(receiver.bodies)) == (422, 2)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"[]", 400), (b"{}", 400), (b"[1,", 400), (b"\xff", 400), (b"[" * 900, 400), (b"[" + b"1," * 100 + b"1]", 413)],
)
async def test_a_body_that_is_no_batch(endpoint: SendEndpoint, body: bytes, status: int) -> None:
    """A body that is no array of 1 to 100 messages is refused as a whole."""
    assert (await ask(endpoint, body, path="/send/batch")).status == status


async def test_a_batch_over_the_rate(endpoint: SendEndpoint, valkey: Valkey) -> None:
    """A batch counts as so many sends: all of it is accepted, or none of it is stored."""
    query = f"site=bound&apiKey={KEY}"
    three = b'[{"rooms":"user_1","event":"a"},{"rooms":"user_1","event":"b"},{"rooms":"user_1","event":"c"}]'
    assert (await ask(endpoint, three, query, path="/send/batch")).status == 429
    assert valkey.client.get(prefix("bound") + "seq") is None
    two = b'[{"rooms":"user_1","event":"a"},{"rooms":"user_1","event":"b"}]'
    assert (await ask(endpoint, two, query, path="/send/batch")).status == 200
    assert (await ask(endpoint, query=query)).status == 429
