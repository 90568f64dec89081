"""The exchange of numbers for texts in events."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.text_ids import (
    ASKED,
    NO_ID,
    SYNCHRONISED,
    TOLD,
    FoundIds,
    IdNumbers,
    IdOf,
    IdTexts,
    each_id,
    put_together,
    taken_apart,
)

TEXTS = IdTexts({1: "ann", 2: "ben"}, {1: "news"})


def test_everything_of_a_synchronisation() -> None:
    """Users, rooms, contacts, messages and receipts have texts; messages keep their numbers, and data its content."""
    message = {"id": 1, "from": 1, "to": {"user": 2}, "data": {"from": 1, "room": 1}, "reply_to": 2}
    answer = {
        "users": [{"id": 1, "name": "1"}, {"id": 2, "deleted": True}],
        "rooms": [{"id": 1, "members": [1, 2], "admins": []}],
        "contacts": [{"user": 2, "name": None}],
        "devices": [{"id": 1}],
        "online": [1],
        "messages": [message, {"id": 2, "deleted": True}, {"id": 3, "from": 2, "to": {"room": 1}}],
        "receipts": [{"ids": [1], "user": 2}],
        "more": False,
    }
    shown = each_id(SYNCHRONISED, answer, TEXTS.of)
    assert shown["users"] == [{"id": "ann", "name": "1"}, {"id": "ben", "deleted": True}]
    assert shown["rooms"] == [{"id": "news", "members": ["ann", "ben"], "admins": []}]
    assert shown["messages"][0] == message | {"from": "ann", "to": {"user": "ben"}}
    assert shown["messages"][1:] == [{"id": 2, "deleted": True}, {"id": 3, "from": "ben", "to": {"room": "news"}}]
    assert (shown["online"], shown["devices"], shown["more"]) == (["ann"], [{"id": 1}], False)
    assert (shown["contacts"][0]["user"], shown["receipts"][0]["user"]) == ("ben", "ben")


def test_an_event_of_the_outbox_keeps_its_data() -> None:
    """Fields without ids are not read: numbers of any size and form stay as they are written."""
    body = '["message",{"id":5,"from":1,"to":{"room":1},"data":{"n":1.50,"big":123456789012345678901234567890}}]'
    event, fields = taken_apart(body)
    told = put_together(event, each_id(TOLD[event], fields, TEXTS.of))
    assert told == body.replace('"from":1', '"from":"ann"').replace('{"room":1}', '{"room":"news"}')
    assert put_together(*taken_apart('["other",{"user":1}]')) == '["other",{"user":1}]'


def test_texts_of_clients() -> None:
    """A text becomes its number; one that nothing has becomes a number that nothing has."""
    numbers = IdNumbers({"ann": 1}, {})
    data = {"id": "x", "to": {"user": "ann"}, "from": "eve", "data": {"to": {"user": "ann"}}}
    taken = each_id(ASKED["message"], data, numbers.of)
    assert taken == {**data, "to": {"user": 1}, "from": NO_ID}
    assert each_id(ASKED["search"], {"text": "a", "with": None}, numbers.of) == {"text": "a", "with": None}


@pytest.mark.parametrize("id", [7, True, 1.5, "", [], {}, "a\x00", "x" * 1_001, "\ud800", ["ann"]])
def test_ids_that_are_none(id: Any) -> None:
    """A number, or a text that no name can be, is refused before its turn."""
    with pytest.raises(ChatRefusal) as refusal:
        each_id(ASKED["contact"], {"user": id}, FoundIds().add_text)
    assert refusal.value.code == "bad_request"


@pytest.mark.parametrize(
    "data", [None, 5, "text", [], {"to": 5}, {"to": []}, {"members": "ann"}, {"with": {"user": None}}]
)
def test_other_forms_stay(data: Any) -> None:
    """A value of another form is left for the types of its event to refuse."""
    for shape in ASKED.values():
        assert each_id(shape, data, FoundIds().add_text) == data
    assert msgspec.json.encode(data)


def test_found_ids() -> None:
    """The ids of an event, each once."""
    found = FoundIds()
    each_id(TOLD["typing"], {"user": 1, "to": {"user": None, "room": 1}}, found.add)
    assert found.of == {IdOf.USER: {1}, IdOf.ROOM: {1}}
