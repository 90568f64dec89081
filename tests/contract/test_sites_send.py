"""Contract, "POST /send": keys, bodies, every error of the list, and the forms of the answer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest

from tests.support.clients import ACK_NONE, WEBSOCKET, ClientKind, each_library
from tests.support.connector import Connector, without_fences
from tests.support.deployment import Deployment
from tests.support.sites import NUMERIC_KEY
from tests.support.tenant import SECRET, Tenant

PYTHON = ClientKind("python", WEBSOCKET)
BODY = {"rooms": ["lobby"], "event": "news", "args": [1]}
MISSING = "Missing query param 'site' or 'apiKey'."
INVALID = "ApiKey invalid."


@pytest.mark.parametrize("accept", [None, "application/json", "*/*", "text/html"])
def test_ok(deployment: Deployment, accept: str | None) -> None:
    """A stored message is answered 200 `OK`, as text/plain unless the client asks for JSON."""
    answer = deployment.try_send("alpha", BODY, headers={"Accept": accept} if accept else {})
    assert answer.status_code == 200
    _check_text(answer, None if accept == "application/json" else "OK", is_json=accept == "application/json")


@pytest.mark.parametrize("is_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ({}, 400, MISSING),
        ({"site": "alpha"}, 400, MISSING),
        ({"apiKey": f"{SECRET}-key-alpha"}, 400, MISSING),
        ({"site": "", "apiKey": ""}, 400, MISSING),
        ({"site": "alpha", "apiKey": f"{SECRET}-key-beta"}, 401, INVALID),
        ({"site": "alpha", "apiKey": f"{SECRET}-key-alphaa"}, 401, INVALID),
        ({"site": "alpha", "apiKey": f"{SECRET}-key-alph"}, 401, INVALID),
        ({"site": "alpha", "apiKey": f"{SECRET}-grüße"}, 401, INVALID),
        ({"site": "nowhere", "apiKey": f"{SECRET}-key-alpha"}, 401, INVALID),
        ({"site": "Alpha", "apiKey": f"{SECRET}-key-alpha"}, 401, INVALID),
        ({"site": "/alpha", "apiKey": f"{SECRET}-key-alpha"}, 401, INVALID),
    ],
    ids=str,
)
def test_key_errors(deployment: Deployment, query: dict[str, str], status: int, text: str, is_json: bool) -> None:
    """A missing site or apiKey is 400; a wrong site and a wrong key are 401 with the same text."""
    headers = {"Accept": "application/json"} if is_json else {}
    answer = deployment.post(params=query, json=BODY, headers=headers)
    assert answer.status_code == status
    _check_text(answer, text, is_json)


def test_key_is_checked_before_the_body(deployment: Deployment) -> None:
    """A request without a valid key is refused before its body is checked, and so
    learns nothing of the body's mistakes."""
    answer = deployment.post(params={"site": "alpha", "apiKey": "wrong"}, content=b"{", headers=JSON)
    assert (answer.status_code, answer.text) == (401, INVALID)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_key_in_a_header(deployment: Deployment, scheme: str) -> None:
    """The key is also accepted as `Authorization: Bearer` or `X-API-Key`, and refused there as in the query."""
    for key, expected in ((deployment.key("alpha"), (200, "OK")), (f"{SECRET}-wrong", (401, INVALID))):
        for headers in ({"Authorization": f"{scheme} {key}"}, {"X-API-Key": key}):
            answer = deployment.post(params={"site": "alpha"}, json=BODY, headers=headers)
            assert (answer.status_code, answer.text) == expected


def test_numeric_key(deployment: Deployment) -> None:
    """An apiKey that is a number in sites.yml is compared as text."""
    for key, status in ((str(NUMERIC_KEY), 200), (f"0{NUMERIC_KEY}", 401), (f"{NUMERIC_KEY}.0", 401)):
        assert deployment.post(params={"site": "numeric", "apiKey": key}, json=BODY).status_code == status


JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

BAD_JSON: dict[str, tuple[bytes, str]] = {
    "rooms left out": (b'{"event": "news", "args": []}', "rooms"),
    "rooms null": (b'{"rooms": null, "event": "news"}', "rooms"),
    "rooms true": (b'{"rooms": true, "event": "news"}', "rooms"),
    "rooms an object": (b'{"rooms": {"a": "b"}, "event": "news"}', "rooms"),
    "a room null": (b'{"rooms": ["a", null], "event": "news"}', "rooms"),
    "a room a list": (b'{"rooms": [["a"]], "event": "news"}', "rooms"),
    "event left out": (b'{"rooms": ["a"], "args": []}', "event"),
    "event null": (b'{"rooms": ["a"], "event": null}', "event"),
    "event empty": (b'{"rooms": ["a"], "event": ""}', "event"),
    "event a number": (b'{"rooms": ["a"], "event": 1}', "event"),
    "event a list": (b'{"rooms": ["a"], "event": ["news"]}', "event"),
    "event _batch": (b'{"rooms": ["a"], "event": "_batch"}', "_batch"),
    "event _resync": (b'{"rooms": ["a"], "event": "_resync"}', "_resync"),
    "event _settings": (b'{"rooms": ["a"], "event": "_settings"}', "_settings"),
    "no JSON": (b"{", ""),
    "empty": (b"", ""),
    "trailing": (b'{"rooms": ["a"], "event": "news"} x', ""),
    "not UTF-8": (b'{"rooms": ["\xff"], "event": "news"}', ""),
    "a list": (b"[]", ""),
    "null": (b"null", ""),
    "a string": (b'"rooms"', ""),
    "NaN": (b'{"rooms": ["a"], "event": "news", "args": [NaN]}', ""),
}
BAD_FORM: dict[str, tuple[bytes, str]] = {
    "rooms left out": (b"event=news&args[]=1", "rooms"),
    "event left out": (b"rooms[]=a&args[]=1", "event"),
    "event empty": (b"rooms[]=a&event=", "event"),
    "event _batch": (b"rooms[]=a&event=_batch", "_batch"),
    "event a list": (b"rooms[]=a&event[]=news", "event"),
    "rooms an object": (b"rooms[a]=b&event=news", "rooms"),
    "empty": (b"", ""),
    "not UTF-8": (b"rooms[]=%FF%FE&event=news", ""),
}


@pytest.mark.parametrize("is_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("site", ["alpha", "plain"])
@pytest.mark.parametrize(
    ("content_type", "body", "mentioned"),
    [
        pytest.param(headers, *case, id=f"{kind}: {name}")
        for kind, headers, cases in (("JSON", JSON, BAD_JSON), ("form", FORM, BAD_FORM))
        for name, case in cases.items()
    ],
)
def test_bad_bodies(
    deployment: Deployment, site: str, content_type: dict[str, str], body: bytes, mentioned: str, is_json: bool
) -> None:
    """A body that breaks the contract is answered 400 with a reason that names the field."""
    query = {"site": site, "apiKey": deployment.key(site)}
    accept = {"Accept": "application/json"} if is_json else {}
    answer = deployment.post(params=query, content=body, headers={**content_type, **accept})
    assert answer.status_code == 400
    assert mentioned in answer.text
    assert answer.text.strip()
    _check_text(answer, None, is_json)


@pytest.mark.parametrize("is_chunked", [False, True], ids=["content-length", "chunked"])
@pytest.mark.parametrize("headers", [JSON, FORM], ids=["JSON", "form"])
def test_body_too_large(deployment: Deployment, headers: dict[str, str], is_chunked: bool) -> None:
    """A body over max_body is answered 413, with or without a Content-Length."""
    body = b'{"rooms": ["a"], "event": "news", "args": ["' + b"x" * 1_000_000 + b'"]}'

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    query = {"site": "alpha", "apiKey": deployment.key("alpha")}
    answer = deployment.post(params=query, content=chunks() if is_chunked else body, headers=headers)
    assert answer.status_code == 413
    _check_text(answer, None, is_json=False)


def test_largest_body(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A body of just under max_body arrives."""
    user = tenant.user()
    client = connect("alpha", user)
    text = "x" * 999_000
    deployment.send("alpha", user.room, "large", text)
    assert client.wait_event("large").args == [text]


@pytest.mark.parametrize("rooms", [[], ["nobody-here"]])
@pytest.mark.parametrize("site", ["alpha", "plain"])
def test_reaching_no_one(deployment: Deployment, site: str, rooms: list[str]) -> None:
    """An empty list of rooms, or only rooms without members, is answered 200 and reaches no device."""
    answer = deployment.try_send(site, {"rooms": rooms, "event": "news", "args": []})
    assert (answer.status_code, answer.text) == (200, "OK")


@pytest.mark.parametrize("site", ["alpha", "plain"])
@each_library
def test_forms_of_args(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind, site: str) -> None:
    """`args` left out means one null; `[]` means none; a value that is no list is the
    one argument. `rooms` may be one name."""
    user = tenant.user()
    client = connect(site, user, kind)
    bodies: dict[str, tuple[dict[str, Any], list[Any]]] = {
        "left-out": ({}, [None]),
        "null": ({"args": None}, [None]),
        "empty": ({"args": []}, []),
        "text": ({"args": "one"}, ["one"]),
        "number": ({"args": 0}, [0]),
        "false": ({"args": False}, [False]),
        "object": ({"args": {"a": [1]}}, [{"a": [1]}]),
        "list": ({"args": [[1], 2]}, [[1], 2]),
    }
    for event, (fields, _) in bodies.items():
        answer = deployment.try_send(site, {"rooms": user.room, "event": event, **fields})
        assert answer.status_code == 200
    received = {event: client.wait_event(event).args for event in bodies}
    assert received == {event: args for event, (_, args) in bodies.items()}


NUMBERS = "[1.0, 1, -0.0, 12345678901234567890, -9223372036854775809, 0.1, 1e3, 123456789012345678901234567890, 1.5e-7]"


@pytest.mark.parametrize("site", ["alpha", "plain"])
def test_numbers_stay_what_was_sent(connect: Connector, tenant: Tenant, deployment: Deployment, site: str) -> None:
    """Numbers reach the client as the backend wrote them: 1.0 stays a float, a large number keeps its digits."""
    user = tenant.user()
    client = connect(site, user, PYTHON)
    body = f'{{"rooms": ["{user.room}"], "event": "numbers", "args": {NUMBERS}}}'.encode()
    answer = deployment.post(params={"site": site, "apiKey": deployment.key(site)}, content=body, headers=JSON)
    assert answer.status_code == 200
    expected = json.loads(NUMBERS)
    received = client.wait_event("numbers").args
    assert [(type(number), number) for number in received] == [(type(number), number) for number in expected]
    assert math.copysign(1, received[2]) == -1


NESTED = ["x", {"id": "1", "tags": ["a", "b"]}]
# The part behind `rooms[]=<room>&event=<event>&`, and the arguments that it stands for.
FORMS: dict[str, tuple[str, list[Any]]] = {
    # PHP's http_build_query writes lists with indexes.
    "php": ("args[0]=x&args[1][id]=1&args[1][tags][0]=a&args[1][tags][1]=b", NESTED),
    "escaped": ("args%5B0%5D=x&args%5B1%5D%5Bid%5D=1", ["x", {"id": "1"}]),
    "one value": ("args=x", ["x"]),
    "an object": ("args[a]=1&args[b][c]=2", [{"a": "1", "b": {"c": "2"}}]),
    "left out": ("", [None]),
    "unicode": ("args[]=%C3%BC+%F0%9F%98%80%20%2B", ["ü 😀 +"]),
    "empty value": ("args[]=&args[]=x", ["", "x"]),
    "many": ("&".join(f"args[{n}]={n}" for n in range(120)), [str(number) for number in range(120)]),
    "deep": ("args[0][a][b][c][d][e][f][g]=1", [{"a": {"b": {"c": {"d": {"e": {"f": {"g": "1"}}}}}}}]),
}
ROOM_FORMS = ("rooms[]={room}", "rooms[0]={room}", "rooms={room}", "rooms[]=nobody&rooms[]={room}")


@pytest.mark.parametrize("site", ["alpha", "plain"])
def test_forms(connect: Connector, tenant: Tenant, deployment: Deployment, site: str) -> None:
    """Form bodies with bracketed keys, as PHP and Rails write them, equal the same JSON; their values are text."""
    user = tenant.user()
    client = connect(site, user)
    query = {"site": site, "apiKey": deployment.key(site)}
    bodies = {event: f"rooms[]={user.room}&event={quote(event)}&{form}" for event, (form, _) in FORMS.items()}
    bodies |= {form: f"{form.format(room=user.room)}&event={quote(form)}&args[]=x" for form in ROOM_FORMS}
    for event, body in bodies.items():
        answer = deployment.post(params=query, content=body.encode(), headers=FORM)
        assert (answer.status_code, answer.text) == (200, "OK"), event
    connect.fence(site, user.room, client)
    received = {event.name: event.args for event in client.events() if event.name in bodies}
    assert received == {event: args for event, (_, args) in FORMS.items()} | {form: ["x"] for form in ROOM_FORMS}


# Rails' to_query writes lists with empty brackets. An object in a list ends where one of its keys is repeated.
RAILS_FORMS: dict[str, list[Any]] = {
    "args[]=x&args[][id]=1&args[][tags][]=a&args[][tags][]=b": NESTED,
    "args[][a]=1&args[][b]=2&args[][a]=3&args[][b]=4": [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}],
    "args[][a][b]=1&args[][a][c]=2": [{"a": {"b": "1", "c": "2"}}],
}


@pytest.mark.parametrize("form", RAILS_FORMS)
def test_objects_in_lists_as_rails_writes_them(
    connect: Connector, tenant: Tenant, deployment: Deployment, form: str
) -> None:
    """A list of objects in Rails' spelling, which has no indexes, becomes the objects that Rails would read."""
    user = tenant.user()
    client = connect("alpha", user)
    query = {"site": "alpha", "apiKey": deployment.key("alpha")}
    body = f"rooms[]={user.room}&event=form&{form}"
    assert deployment.post(params=query, content=body.encode(), headers=FORM).status_code == 200
    assert client.wait_event("form").args == RAILS_FORMS[form]


def test_form_content_type_with_charset(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A charset in the content type changes nothing, for forms and for JSON."""
    user = tenant.user()
    client = connect("alpha", user)
    query = {"site": "alpha", "apiKey": deployment.key("alpha")}
    form = urlencode({"rooms[]": user.room, "event": "form", "args[]": "ü"}).encode()
    body = json.dumps({"rooms": [user.room], "event": "json", "args": ["ü"]}, ensure_ascii=False).encode()
    for content, kind in ((form, FORM), (body, JSON)):
        headers = {"Content-Type": kind["Content-Type"].title() + "; charset=UTF-8"}
        assert deployment.post(params=query, content=content, headers=headers).status_code == 200
    assert client.wait_event("form").args == ["ü"]
    assert client.wait_event("json").args == ["ü"]


@pytest.mark.parametrize("site", ["alpha", "plain"])
def test_room_names_without_case(connect: Connector, tenant: Tenant, deployment: Deployment, site: str) -> None:
    """Room names are compared without case, and a room given twice counts once, on both kinds of sites."""
    room = tenant.unique("MiXed")
    user = tenant.user(room)
    client = connect(site, user, ack=ACK_NONE)
    deployment.send(site, [room, room], "same")
    deployment.send(site, [room.upper(), room.lower()], "other case")
    connect.fence(site, user.room, client)
    assert without_fences(client) == ["same", "other case"]


@pytest.mark.parametrize("site", ["alpha", "plain"])
def test_rooms_that_are_numbers(connect: Connector, tenant: Tenant, deployment: Deployment, site: str) -> None:
    """A number in authUrl's answer and in /send is its text; /send/ is /send, as for the original's router."""
    user = tenant.user()
    tenant.set_rooms(user.token, user.room, 77005)  # type: ignore[arg-type]
    client = connect(site, user, ack=ACK_NONE)
    for number, path in enumerate(("/send", "/send/")):
        body = {"rooms": [77005], "event": f"number-{number}"}
        answer = httpx.post(f"{deployment.url}{path}", params={"site": site, "apiKey": deployment.key(site)}, json=body)
        assert (answer.status_code, answer.text) == (200, "OK")
    deployment.send(site, ["77005"], "text")
    connect.fence(site, user.room, client)
    assert without_fences(client) == ["number-0", "number-1", "text"]


def test_reserved_names_reach_no_client(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A refused body sends nothing, not even to its valid rooms."""
    user = tenant.user()
    client = connect("alpha", user)
    refused: list[Callable[[], httpx.Response]] = [
        lambda: deployment.try_send("alpha", {"rooms": [user.room], "event": "_batch", "args": []}),
        lambda: deployment.try_send("alpha", {"rooms": [user.room, None], "event": "half", "args": []}),
        lambda: deployment.try_send("alpha", {"rooms": [user.room], "event": "", "args": []}),
    ]
    assert [call().status_code for call in refused] == [400, 400, 400]
    connect.fence("alpha", user.room, client)
    assert without_fences(client) == []


def _check_text(answer: httpx.Response, text: str | None, is_json: bool) -> None:
    """Check that the answer has the requested content type and contains `text`."""
    content_type = answer.headers["content-type"].partition(";")[0]
    if is_json:
        assert content_type == "application/json"
        value = answer.json()
        said = list(value.values()) if isinstance(value, dict) else [value]
        assert text is None or text in said
    else:
        assert content_type == "text/plain"
        assert text is None or answer.text == text
