"""The requests for files that are under way."""

from __future__ import annotations

import contextlib

import pytest

from app.errors import RequestRefused
from app.protocols.messenger.files import turns
from app.protocols.messenger.files.turns import FileTurns


def test_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user, a site and the node have their bounds; a request that ends, also by an error, makes room."""
    monkeypatch.setattr(turns, "MAX_REQUESTS_OF_USER", 1)
    monkeypatch.setattr(turns, "MAX_REQUESTS_OF_SITE", 2)
    monkeypatch.setattr(turns, "MAX_REQUESTS", 3)
    under_way = FileTurns()
    with under_way.of_site("a"), under_way.of_user("a", 1), under_way.of_site("a"), under_way.of_user("a", 2):
        for refused in (under_way.of_user("a", 1), under_way.of_site("a")):
            with pytest.raises(RequestRefused) as told, refused:
                pass
            assert (told.value.status, told.value.code) == (503, "too_many")
        with under_way.of_site("b"), under_way.of_user("b", 1), pytest.raises(RequestRefused), under_way.of_site("c"):
            pass
    with contextlib.suppress(ValueError), under_way.of_site("a"), under_way.of_user("a", 1):
        raise ValueError
    with under_way.of_site("a"), under_way.of_user("a", 1):
        pass
    assert (under_way._total, under_way._under_way) == (0, {})
