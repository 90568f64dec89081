"""The table of cases: what every package for backends does, whatever its language, against a real server.

How a language joins stands in `languages.py`.
"""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from standardwebhooks import Webhook

from tests.packages.conftest import KEY, Customers, Hooks, Shop
from tests.packages.door import Fault
from tests.packages.languages import Package, Refusal
from tests.support.clients import ACK_NONE, PYTHON_KINDS, ConnectCall
from tests.support.connector import Drivers, batch_names
from tests.support.deployment import Deployment
from tests.support.hook_receiver import SECRET as HOOK_SECRET
from tests.support.issuer import ISSUER, TOKEN_SECRET
from tests.support.tenant import SECRET, Answer, Tenant

#: Time for a busy machine.
SECONDS = 30.0
OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret of 32 bytes ......").decode()


# Sending


def test_send(shop: Shop, customers: Customers) -> None:
    """A message arrives at the device as it was given, and the answer names it and counts its recipients."""
    user = customers.user()
    device = customers.connect(user)
    item = {"id": 3, "text": "Olá 😀 \u0000 </script>", "price": 1.5, "big": 2**53 - 1, "none": None, "deep": [[], {}]}
    sent = shop("send", rooms=user.room, event="news", args=[item, "two"])
    assert (sent["recipients"], sent["replayed"]) == (1, False)
    assert sent["id"].isdecimal()
    assert device.wait_event("news", timeout_seconds=SECONDS).args == [item, "two"]


@pytest.mark.parametrize(
    ("values", "expected"), [({}, [None]), ({"args": []}, []), ({"args": {"id": 1}}, [{"id": 1}]), ({"args": 0}, [0])]
)
def test_arguments(shop: Shop, customers: Customers, values: dict[str, Any], expected: list[Any]) -> None:
    """Arguments are those of /send: none given is one null, a value that is not a list is the one argument."""
    user = customers.user()
    device = customers.connect(user)
    shop("send", rooms=[user.room], event="news", **values)
    assert device.wait_event("news", timeout_seconds=SECONDS).args == expected


def test_options(shop: Shop, customers: Customers) -> None:
    """Options travel by the names of the query of /send, numbers and flags included."""
    user = customers.user()
    customers.connect(user, ACK_NONE)
    sent = shop("send", rooms=[user.room], event="n", ttl=60, collapse="a b&c", settle="user", ack_within=50, id=True)
    told = shop("message", id=sent["id"])["options"]
    assert told == {"ttl": 60, "collapse": "a b&c", "settle": "user", "ack_within": 50, "id": True}


def test_wait(shop: Shop, customers: Customers) -> None:
    """With `wait` the answer counts the devices that have acknowledged, and those that have not."""
    user = customers.user()
    customers.connect(user)
    customers.connect(user, ACK_NONE, device="d2")
    sent = shop("send", rooms=[user.room], event="news", wait="any", timeout=30)
    assert (sent["acked"], sent["waiting"]) == (1, 1)


def test_wait_is_longer_than_an_attempt(shop: Shop, customers: Customers) -> None:
    """An attempt lasts at least as long as the server was asked to wait."""
    user = customers.user()
    customers.connect(user, ACK_NONE)
    sent = shop.having(attempt_timeout=2.5)("send", rooms=[user.room], event="news", wait="all", timeout=3)
    assert (sent["acked"], sent["waiting"]) == (0, 1)


def test_send_to_nobody(shop: Shop, customers: Customers) -> None:
    """A message to a room without devices is no error; nobody gets it, and the answer says so."""
    assert shop("send", rooms=[customers.room()], event="news")["recipients"] == 0


def test_send_batch(shop: Shop, customers: Customers) -> None:
    """A batch keeps its order, and a wrong message in it is answered by itself."""
    user = customers.user()
    customers.connect(user).disconnect()
    messages: list[dict[str, Any]] = [
        {"rooms": [user.room], "event": f"n{n}", "args": [n], "ttl": 60} for n in range(3)
    ]
    messages.insert(1, {"rooms": [user.room], "event": "_batch"})
    answers = shop("send_batch", messages=messages)
    assert [answer["ok"] for answer in answers] == [True, False, True, True]
    assert answers[1]["status"] == 400
    assert answers[0]["recipients"] == 1
    batch = customers.connect(user).wait_event("_batch", timeout_seconds=SECONDS)
    assert batch_names(batch) == ["n0", "n1", "n2"]


def test_a_wrong_message_is_refused_at_once(shop: Shop, customers: Customers) -> None:
    """An error that no repeat mends is raised after one attempt, with status, code and the server's words."""
    way = shop.fail()
    with pytest.raises(Refusal) as raised:
        shop("send", rooms=[customers.room()], event="_batch")
    assert (raised.value.kind, raised.value.status, raised.value.code) == ("refused", 400, "bad_request")
    assert "_batch" in raised.value.text
    assert len(way.passages) == 1


def test_options_on_a_site_without_queues(shop: Shop) -> None:
    """The server's words about an option that it cannot keep reach the caller."""
    with pytest.raises(Refusal) as raised:
        shop.having(site="plain")("send", rooms=["all"], event="news", ttl=60)
    assert raised.value.status == 400
    assert "ttl" in raised.value.text


def test_a_wrong_key(shop: Shop) -> None:
    """A wrong key is refused with 401, and is not in the error."""
    with pytest.raises(Refusal) as raised:
        shop.having(api_key=f"{SECRET}-wrong")("send", rooms=["all"], event="news")
    assert (raised.value.kind, raised.value.status) == ("refused", 401)
    assert SECRET not in raised.value.text


# Receipts


def test_message(shop: Shop, customers: Customers) -> None:
    """The receipt of a message says what each device has made of it."""
    user = customers.user()
    customers.connect(user).disconnect()
    sent = shop("send", rooms=[user.room], event="news")
    told = shop("message", id=sent["id"])
    assert (told["id"], told["event"], told["summary"]["waiting"]) == (sent["id"], "news", 1)
    assert [(row["user"], row["device"], row["state"]) for row in told["devices"]] == [(user.room, "d1", "waiting")]


def test_message_in_pages(shop: Shop, customers: Customers) -> None:
    """`limit` and `cursor` lead through the devices of a message."""
    user = customers.user()
    for device in ("d1", "d2"):
        customers.connect(user, device=device).disconnect()
    sent = shop("send", rooms=[user.room], event="news")
    found, cursor = [], None
    while True:
        page = shop("message", id=sent["id"], limit=1, **({"cursor": cursor} if cursor else {}))
        found += [row["device"] for row in page["devices"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert sorted(found) == ["d1", "d2"]


def test_an_id_that_is_none(shop: Shop) -> None:
    """An id with other characters than digits is refused before a request is made: it would be a path of its own."""
    way = shop.fail()
    for name in ("message", "withdraw"):
        with pytest.raises(Refusal) as raised:
            shop(name, id="1/../../send")
        assert raised.value.kind == "bad_input"
    assert way.passages == []


def test_withdraw(shop: Shop, customers: Customers) -> None:
    """A withdrawn message leaves the queues that hold it, and the answer counts them."""
    user = customers.user()
    customers.connect(user).disconnect()
    first, _ = [shop("send", rooms=[user.room], event=event) for event in ("one", "two")]
    assert shop("withdraw", id=first["id"]) == 1
    batch = customers.connect(user).wait_event("_batch", timeout_seconds=SECONDS)
    assert batch_names(batch) == ["two"]


def test_a_withdrawal_whose_answer_is_lost(shop: Shop, customers: Customers) -> None:
    """A repeat that finds the message gone is no error: the attempt before it has taken the message away. A first
    attempt that finds none is one."""
    user = customers.user()
    customers.connect(user).disconnect()
    sent = shop("send", rooms=[user.room], event="news")
    way = shop.fail(Fault("lose"))
    assert shop("withdraw", id=sent["id"]) == 0
    assert way.statuses == [200, 404]
    with pytest.raises(Refusal) as raised:
        shop("withdraw", id=sent["id"])
    assert (raised.value.status, raised.value.code) == (404, "unknown_message")


# Users and rooms


def test_disconnect(shop: Shop, customers: Customers) -> None:
    """The connections of a user end, with the text as the reason; another user's stay."""
    user, other = customers.user(), customers.user()
    device, left = customers.connect(user), customers.connect(other)
    assert shop("disconnect", user=user.room, text="You have been signed out") == 1
    assert device.wait_event("_closed", timeout_seconds=SECONDS).args == [{"reason": "You have been signed out"}]
    device.wait_disconnected(SECONDS)
    shop("send", rooms=[other.room], event="news")
    left.wait_event("news", timeout_seconds=SECONDS)


def test_move_rooms(shop: Shop, customers: Customers) -> None:
    """A user joins and leaves rooms while connected."""
    old, new = customers.room(), customers.room()
    user = customers.user(old)
    device = customers.connect(user)
    assert shop("move_rooms", user=user.room, join=[new], leave=[old]) == 1
    shop("send", rooms=[old], event="old")
    shop("send", rooms=[new], event="new")
    device.wait_event("new", timeout_seconds=SECONDS)
    assert device.names() == ["new"]


# Repeats


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_fault_is_repeated(shop: Shop, customers: Customers, status: int) -> None:
    """A call goes on behind a status that passes. Every attempt has the same Idempotency-Key, another call another."""
    user = customers.user()
    customers.connect(user).disconnect()
    way = shop.fail(Fault("answer", status))
    for _ in range(2):
        shop("send", rooms=[user.room], event="news")
    keys = [passage.headers["idempotency-key"] for passage in way.passages]
    assert len(keys) == 3
    assert keys[0] == keys[1] != keys[2]
    assert customers.connect(user).wait_event("_batch", timeout_seconds=SECONDS).args[0] == [["news", None]] * 2


def test_an_answer_that_is_lost(shop: Shop, customers: Customers) -> None:
    """A message whose answer is lost is stored once, by send and by send_batch, and the answer tells of the repeat."""
    user = customers.user()
    customers.connect(user).disconnect()
    way = shop.fail(Fault("lose"))
    sent = shop("send", rooms=[user.room], event="one")
    assert sent["replayed"] is True
    assert way.statuses == [200, 200]
    way.faults.append(Fault("lose"))
    (answer,) = shop("send_batch", messages=[{"rooms": [user.room], "event": "two"}])
    assert answer["ok"]
    assert way.statuses == [200] * 4
    assert batch_names(customers.connect(user).wait_event("_batch", timeout_seconds=SECONDS)) == ["one", "two"]


def test_a_key_of_the_caller(shop: Shop, customers: Customers) -> None:
    """A caller that gives the Idempotency-Key may repeat the call later: it is stored once."""
    user = customers.user()
    customers.connect(user).disconnect()
    key = customers.room()
    sent = [shop("send", rooms=[user.room], event="news", idempotency_key=key) for _ in range(2)]
    assert [one["replayed"] for one in sent] == [False, True]
    assert sent[0]["id"] == sent[1]["id"]


def test_questions_and_orders_are_repeated(shop: Shop, customers: Customers) -> None:
    """The other calls go on behind a fault too."""
    user = customers.user()
    customers.connect(user).disconnect()
    sent = shop("send", rooms=[user.room], event="news")
    way = shop.fail(Fault("answer"))
    assert shop("message", id=sent["id"])["id"] == sent["id"]
    way.faults = [Fault("cut")]
    assert shop("withdraw", id=sent["id"]) == 1
    way.faults = [Fault("answer")]
    assert shop("disconnect", user=user.room) == 0
    way.faults = [Fault("cut")]
    assert shop("move_rooms", user=user.room, join=[customers.room()]) == 1
    assert len(way.passages) == 8


def test_the_last_error_is_raised(shop: Shop) -> None:
    """When every attempt is answered with an error, the last one is raised; `retries` counts the repeats."""
    way = shop.having(retries=2).fail(*[Fault("answer")] * 3)
    with pytest.raises(Refusal) as raised:
        shop("send", rooms=["all"], event="news")
    assert (raised.value.kind, raised.value.status, raised.value.code) == ("refused", 503, "store_unavailable")
    assert raised.value.text.endswith("not now")
    assert len(way.passages) == 3


def test_pauses_grow(shop: Shop) -> None:
    """Each pause is at least half of its step, and the steps double."""
    way = shop.having(retries=2).fail(*[Fault("answer")] * 3)
    with pytest.raises(Refusal):
        shop("send", rooms=["all"], event="news")
    first, second, third = [passage.at for passage in way.passages]
    assert second - first >= 0.09
    assert third - second >= 0.19


def test_retry_after_is_kept(shop: Shop) -> None:
    """The pause is at least what the answer asks for."""
    way = shop.fail(Fault("answer", 429, headers={"Retry-After": "1"}))
    shop("send", rooms=["all"], event="news")
    first, second = [passage.at for passage in way.passages]
    assert second - first >= 0.99


@pytest.mark.parametrize("header", ["3600", "9" * 400])
def test_a_pause_past_the_deadline(shop: Shop, header: str) -> None:
    """A pause that would pass the deadline is not begun: the error is raised at once."""
    way = shop.fail(Fault("answer", 429, headers={"Retry-After": header}))
    with pytest.raises(Refusal) as raised:
        shop("send", rooms=["all"], event="news")
    assert raised.value.status == 429
    assert len(way.passages) == 1


@pytest.mark.parametrize("header", ["soon", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "nan", "1e999"])
def test_retry_after_that_is_no_number(shop: Shop, header: str) -> None:
    """A Retry-After that is no number of seconds counts as none."""
    way = shop.fail(Fault("answer", 503, headers={"Retry-After": header}))
    shop("send", rooms=["all"], event="news")
    assert len(way.passages) == 2


# Servers that do harm


def test_a_server_that_is_away(shop: Shop) -> None:
    """Without a connection the call is unreachable, after its repeats."""
    way = shop.having(retries=1).fail(Fault("cut"), Fault("cut"))
    with pytest.raises(Refusal) as raised:
        shop("send", rooms=["all"], event="news")
    assert raised.value.kind == "unreachable"
    assert len(way.passages) == 2


def test_a_server_that_hangs(shop: Shop) -> None:
    """An attempt ends after `attempt_timeout`, also when its answer goes on byte by byte, and the next one is made."""
    way = shop.having(attempt_timeout=1).fail(Fault("hang"), Fault("drip"))
    assert shop("send", rooms=["all"], event="news")["recipients"] == 0
    assert way.statuses[-1] == 200


def test_the_deadline_bounds_an_attempt(shop: Shop) -> None:
    """A call ends by its deadline, however long an attempt might last."""
    way = shop.having(deadline=1).fail(Fault("hang"))
    begin = time.monotonic()
    with pytest.raises(Refusal) as raised:
        shop("send", rooms=["all"], event="news")
    assert raised.value.kind == "unreachable"
    # An attempt would last 10 s, and five attempts 50.
    assert time.monotonic() - begin < 9
    assert way.statuses == []


def test_a_deadline_that_has_passed(shop: Shop) -> None:
    """A deadline that is over before the first attempt is an attempt without an answer, and no endless one."""
    way = shop.having(deadline=1e-6).fail(Fault("hang"))
    with pytest.raises(Refusal) as raised:
        shop("send", rooms=["all"], event="news")
    assert raised.value.kind == "unreachable"
    assert way.statuses == []


def test_an_answer_without_end(shop: Shop) -> None:
    """An answer past 4 MB is not read further, and not asked for again."""
    way = shop.fail(Fault("flood"))
    with pytest.raises(Refusal) as raised:
        shop("message", id="1")
    assert raised.value.kind == "bad_answer"
    assert len(way.passages) == 1


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", "null", '"text"', '{"ok": true}', "[" * 100_000, '{"id": 5, "recipients": "x"}']
)
def test_an_answer_that_is_none(shop: Shop, body: str) -> None:
    """A 200 that is not the server's is an error of its own, never a message that counts as sent."""
    shop.fail(Fault("answer", 200, body))
    with pytest.raises(Refusal) as raised:
        shop("send", rooms=["all"], event="news")
    assert raised.value.kind == "bad_answer"


@pytest.mark.parametrize("body", ["", "<html>" + "x" * 10_000, "[1]", "[" * 100_000, "café"])
def test_an_error_that_is_no_json(shop: Shop, body: str) -> None:
    """The error of something before the server is told with its status and the begin of its text."""
    shop.fail(Fault("answer", 403, body))
    with pytest.raises(Refusal) as raised:
        shop("send", rooms=["all"], event="news")
    assert (raised.value.kind, raised.value.status) == ("refused", 403)
    assert len(raised.value.text) < 1000


def test_redirects_are_not_followed(shop: Shop) -> None:
    """A redirect is an error: the key goes to no other address."""
    other = shop.fail()
    elsewhere = other.url
    way = shop.fail(Fault("answer", 307, "", {"Location": f"{elsewhere}/send"}))
    with pytest.raises(Refusal) as raised:
        shop("send", rooms=["all"], event="news")
    assert (raised.value.kind, raised.value.status) == ("refused", 307)
    assert (len(way.passages), len(other.passages)) == (1, 0)


# Secrets


def test_the_key_is_in_no_url(shop: Shop, customers: Customers) -> None:
    """The key stands in a header, so that no access log has it; the request asks for JSON."""
    way = shop.fail()
    shop("send", rooms=[customers.room()], event="news")
    (passage,) = way.passages
    assert KEY not in str(passage.query)
    assert passage.headers["x-api-key"] == KEY
    assert passage.headers["accept"] == "application/json"


def test_secrets_are_not_shown(shop: Shop) -> None:
    """No secret is in the text that the language prints of a client, in its errors and in its log."""
    shop.fail(Fault("cut"))
    shop.having(retries=0)
    with pytest.raises(Refusal) as raised:
        shop("send", rooms=["all"], event="news")
    shown = shop("describe")
    assert "shop" in shown
    for secret in (KEY, TOKEN_SECRET, HOOK_SECRET, HOOK_SECRET.removeprefix("whsec_")):
        assert secret not in shown
        assert secret not in raised.value.text
        assert secret not in shop.output()


@pytest.mark.parametrize(
    "options",
    [
        {"url": "ftp://127.0.0.1"},
        {"url": "127.0.0.1:1337"},
        {"url": "http://user:pass@127.0.0.1"},
        {"api_key": ""},
        {"api_key": "a\r\nX-Other: b"},
        {"site": ""},
        {"webhook_secret": f"{SECRET}-without-the-prefix"},
        {"token_secret": f"{SECRET}-short"},
        {"attempt_timeout": 0},
        {"deadline": -1},
        {"retries": -1},
    ],
    ids=str,
)
def test_options_of_the_client_are_checked(shop: Shop, options: dict[str, Any]) -> None:
    """A client with a setting that cannot be meant is not made, and the error names no secret."""
    with pytest.raises(Refusal) as raised:
        shop.having(**options)("describe")
    assert raised.value.kind == "bad_input"
    assert SECRET not in raised.value.text


# Webhooks


def hook(
    events: list[dict[str, Any]], secret: str = HOOK_SECRET, age: float = 0, **more: Any
) -> tuple[str, dict[str, str]]:
    """A request as the server makes it: its body and headers, signed by the package of the standard."""
    body = json.dumps({"type": "events", "timestamp": "2026-11-27T10:00:00.250Z", "data": {"events": events}} | more)
    moment = datetime.fromtimestamp(time.time() - age, UTC)
    return body, {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", moment, body),
    }


EVENTS = [
    {"type": "user.online", "seq": 3487058000001, "at": "2026-11-27T10:00:00.151Z", "user": "user_é", "devices": 1}
]


def test_a_webhook_of_the_server(shop: Shop, customers: Customers, hooks: Hooks) -> None:
    """A request that the server has made is verified, as it came."""
    user = customers.user()
    customers.connect(user)
    sent = shop("send", rooms=[user.room], event="news", notify="acked")
    body, headers = hooks.seen.wait_for(lambda seen: sent["id"] in seen[0], "the webhook", SECONDS)
    told = [event for event in shop("verify_webhook", body=body, headers=headers) if event["id"] == sent["id"]]
    assert [(event["type"], event["user"]) for event in told] == [("message.acknowledged", user.room)]


def test_webhooks_are_verified(shop: Shop) -> None:
    """A signed request gives its events, whatever the case of the headers' names."""
    body, headers = hook(EVENTS)
    assert shop("verify_webhook", body=body, headers=headers) == EVENTS
    assert shop("verify_webhook", body=body, headers={name.title(): value for name, value in headers.items()}) == EVENTS


def test_secrets_of_webhooks_may_change(shop: Shop) -> None:
    """While the secret is changed, one of several secrets and one of several signatures is enough."""
    body, headers = hook(EVENTS)
    shop.having(webhook_secret=[OTHER_SECRET, HOOK_SECRET])
    assert shop("verify_webhook", body=body, headers=headers) == EVENTS
    signatures = f"v1,AAAA v2,{'A' * 43}= {headers['webhook-signature']}"
    assert shop("verify_webhook", body=body, headers=headers | {"webhook-signature": signatures}) == EVENTS


@pytest.mark.parametrize(
    "wrong",
    [
        "a body that was changed",
        "another secret",
        "an id that was changed",
        "a time that was changed",
        "too old",
        "too new",
        "a time that is none",
        "no signature",
        "an empty signature",
        "a signature of another version",
        "a signature that is no Base64",
        "too long",
        "no JSON",
        "no events",
    ],
)
def test_wrong_webhooks_are_refused(shop: Shop, wrong: str) -> None:
    """A request that this server has not made, or not now, is refused."""
    body, headers = wrong_hook(wrong)
    with pytest.raises(Refusal) as raised:
        shop("verify_webhook", body=body, headers=headers)
    assert raised.value.kind == "bad_webhook"
    assert HOOK_SECRET not in raised.value.text


@pytest.mark.parametrize("name", ["id", "timestamp", "signature"])
def test_headers_of_a_webhook_that_are_no_text(package: Package, shop: Shop, name: str) -> None:
    """Bytes in a header that are no UTF-8, as some servers hand them on, are refused like any other wrong header."""
    body, headers = hook(EVENTS)
    # PHP reads no half of a surrogate pair, and has no texts but bytes.
    odd = "v1," + chr(0xFFFD if package.language.name == "php" else 0xDCFF)
    with pytest.raises(Refusal) as raised:
        shop("verify_webhook", body=body, headers=headers | {f"webhook-{name}": odd})
    assert raised.value.kind == "bad_webhook"


def wrong_hook(wrong: str) -> tuple[str, dict[str, str]]:
    """A request with one fault."""
    body, headers = hook(EVENTS)
    signature = headers["webhook-signature"]
    moment = str(int(headers["webhook-timestamp"]) + 1)
    without = {name: value for name, value in headers.items() if name != "webhook-signature"}
    odd_moment = headers | {"webhook-timestamp": "soon"}
    found = {
        "a body that was changed": (body.replace("online", "gone"), headers),
        "another secret": hook(EVENTS, OTHER_SECRET),
        "an id that was changed": (body, headers | {"webhook-id": "msg_2"}),
        "a time that was changed": (body, headers | {"webhook-timestamp": moment}),
        "too old": hook(EVENTS, age=400),
        "too new": hook(EVENTS, age=-400),
        "a time that is none": (body, odd_moment),
        "no signature": (body, without),
        "an empty signature": (body, headers | {"webhook-signature": ""}),
        "a signature of another version": (body, headers | {"webhook-signature": f"v1a,{signature[3:]}"}),
        "a signature that is no Base64": (body, headers | {"webhook-signature": "v1,é"}),
        "too long": hook(EVENTS, pad="x" * (1 << 20)),
        "no JSON": signed_text("{"),
        "no events": signed_text("[]"),
    }
    return found[wrong]


def signed_text(body: str) -> tuple[str, dict[str, str]]:
    """A request with this body, rightly signed."""
    moment = datetime.now(UTC)
    headers = hook(EVENTS)[1] | {"webhook-timestamp": str(int(moment.timestamp()))}
    return body, headers | {"webhook-signature": Webhook(HOOK_SECRET).sign("msg_1", moment, body)}


# Tokens and authUrl


def test_a_token_lets_a_user_in(
    shop: Shop, server: Deployment, drivers: Drivers, customers: Customers, tenant: Tenant
) -> None:
    """A page with a signed token is let in without a request to the backend, and is in its rooms."""
    room, number = customers.room(), tenant.unique("9")
    token = shop("sign_token", user=number, rooms=[room, 7])
    call = ConnectCall(PYTHON_KINDS[0], server.url, "shop", auth={"token": token, "deviceId": "d1"})
    device = drivers.python.connect(call)
    device.wait_event("_settings", timeout_seconds=SECONDS)
    for event, target in (("one", f"user_{number}"), ("two", room), ("three", "7")):
        shop("send", rooms=[target], event=event)
        device.wait_event(event, timeout_seconds=SECONDS)
    device.forget()
    assert tenant.requests_of(token) == []


def test_the_claims_of_a_token(shop: Shop) -> None:
    """A token has issuer, audience, user, rooms and both times, and claims that the caller adds."""
    before = int(time.time())
    token = shop("sign_token", user=8, rooms=["news"], expires_in=60, claims={"name": "Ana é"})
    claims = jwt.decode(token, TOKEN_SECRET, ["HS256"], audience="shop", issuer=ISSUER)
    assert before <= claims["iat"] <= time.time()
    assert claims.pop("exp") - claims.pop("iat") == 60
    assert claims == {"iss": ISSUER, "aud": "shop", "sub": "8", "rooms": ["news"], "name": "Ana é"}


def test_a_token_cannot_be_signed(shop: Shop) -> None:
    """Without a user, with a time that has passed, or with a claim that would replace one of these, none is signed."""
    for values in ({"user": ""}, {"user": "8", "expires_in": 0}, {"user": "8", "claims": {"exp": 2**40}}):
        with pytest.raises(Refusal) as raised:
            shop("sign_token", **values)
        assert raised.value.kind == "bad_input"


def test_an_answer_of_auth_url(shop: Shop, customers: Customers, tenant: Tenant) -> None:
    """The answer that the package renders lets a user in, with its rooms; the other one refuses."""
    user, room = customers.user(), customers.room()
    answer = shop("auth_answer", rooms=[user.room, room, 5])
    assert (answer["status"], answer["headers"]["content-type"]) == (200, "application/json")
    assert json.loads(answer["body"]) == [user.room, room, 5]
    tenant.answer(user.token, Answer(answer["status"], answer["body"].encode()))
    device = customers.connect(user)
    shop("send", rooms=[room], event="news")
    device.wait_event("news", timeout_seconds=SECONDS)
    assert shop("auth_answer", rooms=None)["status"] == 401


@pytest.mark.parametrize("rooms", ["user_8", {"room": 1}, [None], [["a"]], [{}], [True], ["x" * 1001], [1] * 10_001])
def test_answers_that_the_server_would_refuse(shop: Shop, rooms: Any) -> None:
    """Rooms that the server would refuse are an error where they are made."""
    with pytest.raises(Refusal) as raised:
        shop("auth_answer", rooms=rooms)
    assert raised.value.kind == "bad_input"
