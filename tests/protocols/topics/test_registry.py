"""Registered topics: lists of users, passwords, and the stored form of both."""

from __future__ import annotations

import json

import pytest

from app.errors import BadRequest
from app.protocols.topics.registry import (
    TopicRegistration,
    check_registrable,
    hash_password,
    is_among,
    is_password,
    pack,
    read_registration,
    show,
    unpack,
)


@pytest.mark.parametrize(
    ("user", "users", "expected"),
    [
        ("u1", ["u1"], True),
        ("u2", ["u1"], False),
        (None, ["u1", "+", "[][][]"], False),
        (None, ["*"], True),
        ("u2", ["*"], True),
        ("u2", ["+"], True),
        ("[][][]", ["+"], True),
        ("[][][]", ["[][][]"], True),
        ("u2", ["[][][]"], False),
        ("u2", [], False),
    ],
)
def test_is_among(user: str | None, users: list[str], expected: bool) -> None:
    """`*` matches everybody, `+` every bound user, `[][][]` a user bound without identity."""
    assert is_among(user, users) is expected
    assert is_among(user, frozenset(users)) is expected


def test_owner() -> None:
    """The owner may publish and listen."""
    registration = TopicRegistration("boss", ("p",), ("s",))
    assert registration.may_publish("boss")
    assert not registration.may_publish("s")
    assert registration.subscribers == ("boss", "s")


def test_password() -> None:
    """Equal passwords have different hashes, and only the right password matches its hash."""
    one, two = hash_password("open \U0001f600"), hash_password("open \U0001f600")
    assert one != two
    assert "open" not in one
    assert is_password("open \U0001f600", one)
    assert not is_password("open", one)


def test_kept_and_shown() -> None:
    """A stored registration reads as before; neither the shown form nor the repr contains the hash."""
    registration = TopicRegistration("boss", ("1",), ("*",), "hash")
    assert unpack(pack(registration)) == registration
    assert unpack(pack(TopicRegistration("boss"))) == TopicRegistration("boss")
    assert "hash" not in repr(registration)
    assert json.loads(show("a/b", registration)) == {
        "topic": "a/b",
        "owner": "boss",
        "pub": ["1"],
        "sub": ["*"],
        "has_pub_password": True,
    }


@pytest.mark.parametrize(("value", "password"), [("x", "x"), ("", None), (None, None)])
def test_password_of_a_body(value: object, password: str | None) -> None:
    """An empty password means none, as with the original."""
    body = json.dumps({"owner": 7, "pub_password": value, "pub": None, "sub": ["a", 5]}).encode()
    assert read_registration(body) == (TopicRegistration("7", (), ("a", "5")), password)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"\xff", b'{"owner":null}', b'{"owner":"+"}', b'{"owner":"[][][]"}', b'{"owner":true}'),
        *(b'{"owner":"u","pub":{}}', b'{"owner":"u","pub":[""]}', b'{"owner":"u","pub_password":5}'),
        b'{"owner":"u","pub_password":"%s"}' % (b"x" * 1025),
    ],
)
def test_what_is_no_registration(body: bytes) -> None:
    """An invalid registration is refused with 400."""
    with pytest.raises(BadRequest) as caught:
        read_registration(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(("topic", "status"), [("a/+", 400), ("#", 400), ("", 400), ("@SERVER@", 403)])
def test_what_cannot_be_registered(topic: str, status: int) -> None:
    """Patterns and the server's own topics cannot be registered."""
    with pytest.raises(BadRequest) as caught:
        check_registrable(topic)
    assert caught.value.status == status
    check_registrable("a/b")
