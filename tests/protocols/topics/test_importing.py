"""es-web-notify's registry becomes requests to ours, from a dump, from JSON, and from exports of phpMyAdmin."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.errors import ConfigError
from app.protocols.topics.importing import read_registry
from app.protocols.topics.registry import MAX_USERS, read_registration

DUMP = rb"""
CREATE TABLE `registered_endpoints` (`endpoint` varchar(255) NOT NULL, `owner` varchar(64), `pub` text, `sub` text,
  `pub_password` text, PRIMARY KEY (`endpoint`));
INSERT INTO `registered_endpoints` VALUES ('wid-0001/response','7','["7", 9]','["*"]','""'),
('wid-0002/a','8','["8"]','["+", "[][][]"]','"$2y$10$abc"'),('wid/#','8','[]','[]',NULL);
"""
ROW = {"endpoint": "a", "owner": 7, "pub": [7], "sub": '["*"]', "pub_password": ""}


def bodies(data: bytes, owner: str | None = None) -> dict[str, Any]:
    """The bodies of the requests by path."""
    return {request.path: json.loads(request.body) for request in read_registry(data, owner).requests}


def test_dump() -> None:
    """Each row is a PUT. A password that es-web-notify never checked and a topic with wildcards are told."""
    plan = read_registry(DUMP, None)
    assert [request.method for request in plan.requests] == ["PUT", "PUT"]
    assert bodies(DUMP) == {
        "/registry/wid-0001%2Fresponse": {"owner": "7", "pub": ["7", 9], "sub": ["*"]},
        "/registry/wid-0002%2Fa": {"owner": "8", "pub": ["8"], "sub": ["+", "[][][]"]},
    }
    assert [note.partition(":")[0] for note in plan.notes] == ["topic 'wid-0002/a'", "topic 'wid/#'"]
    assert "$2y$" not in str(plan)
    registration, password = read_registration(plan.requests[0].body)
    assert (registration.pub, password) == (("7", "9"), None)


@pytest.mark.parametrize(
    "value",
    [
        [ROW],
        {"registered_endpoints": [ROW]},
        [{"type": "header"}, {"type": "table", "name": "registered_endpoints", "data": [ROW]}],
        [{**ROW, "owner": "7", "pub": "[7]"}],
        [{**ROW, "ep": "a", "endpoint": "a", "owner": '"7"'}],
        [ROW, ROW],
    ],
)
def test_json(value: object) -> None:
    """JSON may be a list of rows, the table by its name, or an export of phpMyAdmin."""
    (request,) = read_registry(b"\xef\xbb\xbf" + json.dumps(value).encode(), None).requests
    registration, _ = read_registration(request.body)
    assert (registration.owner, registration.pub, registration.sub) == ("7", ("7",), ("*",))


def test_owner() -> None:
    """A topic without an owner gets the given one, and is refused without it."""
    data = json.dumps([{"endpoint": "a", "pub": None, "sub": None}]).encode()
    assert bodies(data, "me")["/registry/a"]["owner"] == "me"
    with pytest.raises(ConfigError, match=r"topic 'a': owner: expected .* Use --owner"):
        read_registry(data, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[",
        b"[1]",
        b"{}",
        b"[{}]",
        b"[" * 100_000,
        json.dumps([{**ROW, "pub": "x"}]).encode(),
        json.dumps([{**ROW, "sub": "7"}]).encode(),
        json.dumps([{**ROW, "sub": list(range(MAX_USERS + 1))}]).encode(),
        json.dumps([{**ROW, "owner": "*"}]).encode(),
    ],
    ids=lambda data: str(data)[:20],
)
def test_what_cannot_be_imported(data: bytes) -> None:
    """A file that is no registry is refused as a whole, with the reason."""
    with pytest.raises(ConfigError):
        read_registry(data, None)
