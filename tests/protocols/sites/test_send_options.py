"""The options of /send: their values in the query and the body, and what a site must have for each."""

from __future__ import annotations

from typing import Any

import pytest

from app.config.settings import HookEvent, WebhookSettings
from app.core.options import MessageOptions
from app.errors import BadRequest
from app.protocols.sites.send_body import read_send_body
from app.protocols.sites.send_options import read_options
from tests.support.store import make_site

EVENTS: tuple[HookEvent, ...] = ("message.unacknowledged", "message.acknowledged")
SITE = make_site(webhook=WebhookSettings(url="http://127.0.0.1/hook", secrets=("whsec_x",), events=EVENTS))


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("ttl", ["1", 1, "2592000", " 5 "], [1, 1, 2_592_000, 5]),
        ("collapse", ["k", 5, "ä" * 32], ["k", "5", "ä" * 32]),
        ("settle", ["user", "device"], ["user", "device"]),
        ("ack_within", ["1", 86_400], [1, 86_400]),
        ("wait", ["any", "all"], ["any", "all"]),
        ("timeout", [60, "1"], [60, 1]),
        ("notify", ["acked"], ["acked"]),
        ("id", [True, "true", "1", 1, False, "false", "0"], [True, True, True, True, False, False, False]),
    ],
)
def test_values(name: str, given: list[Any], expected: list[Any]) -> None:
    """Numbers and flags count as texts and as JSON, in the body and, as texts, in the query."""
    for value, wanted in zip(given, expected, strict=True):
        assert getattr(read_options(SITE, {}, {name: value}), name) == wanted
        if isinstance(value, str):
            assert getattr(read_options(SITE, {name: value}, {}), name) == wanted


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ttl", ["0", "2592001", "-1", "1.5", "", "x", True, None, "9" * 5_000, "\uff11"]),
        ("collapse", ["", "k" * 65, "ä" * 33, None, True]),
        ("settle", ["all", "", None, 1]),
        ("ack_within", [0, 86_401, "1s"]),
        ("wait", ["true", "", None, True]),
        ("timeout", [0, 61, "5.5"]),
        ("notify", ["true", "", None]),
        ("id", ["yes", None, 2]),
    ],
)
def test_wrong_values(name: str, values: list[Any]) -> None:
    """A value that is none of the option's is refused with the option's name and what was expected."""
    for value in values:
        with pytest.raises(BadRequest, match=f"^{name}: expected") as refusal:
            read_options(SITE, {}, {name: value})
        assert refusal.value.status == 400


def test_the_query_wins() -> None:
    """An option in both places has the value of the query; a wrong one in the body does not count then."""
    assert read_options(SITE, {"ttl": "5"}, {"ttl": "wrong", "id": True}) == MessageOptions(ttl=5, id=True)


@pytest.mark.parametrize("name", ["ttl", "collapse", "settle", "ack_within", "wait", "notify"])
def test_a_site_without_queues(name: str) -> None:
    """A site without queues refuses the options of queues, with the reason; `id` it takes."""
    plain = make_site(user_room_prefix=None, webhook=SITE.webhook)
    value = {"settle": "user", "wait": "any", "notify": "acked"}.get(name, "5")
    with pytest.raises(BadRequest, match=f"^{name}: expected a site with queues"):
        read_options(plain, {name: value}, {})
    assert read_options(plain, {"id": "true"}, {}).id


@pytest.mark.parametrize(("name", "value"), [("ack_within", "5"), ("notify", "acked")])
def test_a_site_without_the_event(name: str, value: str) -> None:
    """An option of which the webhook would tell is refused where the webhook does not."""
    for site in (make_site(), make_site(webhook=WebhookSettings(url="http://x/", events=("user.online",)))):
        with pytest.raises(BadRequest, match=f"^{name}: expected a site whose webhook has the event message"):
            read_options(site, {name: value}, {})


def test_options_of_a_body() -> None:
    """Options stand beside `rooms`, in JSON and in a form; other fields are ignored, and null is none."""
    body = b'{"rooms":"a","event":"e","ttl":"5","id":true,"wait":null,"other":{"ttl":1},"timeoutx":[]}'
    assert read_send_body("", body).options == {"ttl": "5", "id": True}
    form = read_send_body("application/x-www-form-urlencoded", b"rooms=a&event=e&ttl=5&id=true&x=1")
    assert form.options == {"ttl": "5", "id": "true"}
    nested = read_send_body("", b'{"rooms":"a","event":"e","ttl":[5],"settle":{}}').options
    assert nested == {"ttl": None, "settle": None}
    assert read_send_body("", rb'{"rooms":"a","event":"e","collapse":"\ud800"}').options in (
        {"collapse": None},
        {"collapse": "\ufffd"},
    )


def test_options_as_json() -> None:
    """Beside the message stands what was given, and nothing where nothing was."""
    assert MessageOptions().encode() == b""
    assert MessageOptions(ttl=5, collapse="k").encode() == b'{"ttl":5,"collapse":"k"}'
