"""The levels of topics are counted for each address and for the node, and given back."""

from __future__ import annotations

import pytest

from app.errors import LimitReached
from app.protocols.topics.level_budget import TOO_MANY_OF_ADDRESS, TOO_MANY_OF_NODE, LevelBudget
from app.transport.refusals import TOO_MANY_LEVELS, refused


def test_address_has_its_share() -> None:
    """All addresses of one customer share a bound in each site; what ends makes room, and leaves nothing behind."""
    budget = LevelBudget()
    budget.take("shop", "2001:db8::1", 6, 10)
    before = refused[TOO_MANY_LEVELS]
    with pytest.raises(LimitReached, match=TOO_MANY_OF_ADDRESS):
        budget.take("shop", "2001:db8::2", 5, 10)
    assert refused[TOO_MANY_LEVELS] == before + 1
    budget.take("news", "2001:db8::2", 10, 10)
    budget.take("shop", "192.0.2.1", 10, 10)
    budget.give("shop", "2001:db8::1", 6)
    budget.take("shop", "2001:db8::2", 10, 10)
    for site, address in (("news", "2001:db8::2"), ("shop", "192.0.2.1"), ("shop", "2001:db8::2")):
        budget.give(site, address, 10)
    assert not budget._of_address
    with pytest.raises(LimitReached):
        budget.take("shop", "192.0.2.9", 11, 10)
    assert not budget._of_address


def test_node_has_its_bound() -> None:
    """Many addresses together, and unknown ones, cannot take more than the node has."""
    budget = LevelBudget(max_levels_of_node=10)
    budget.take("shop", "", 6, 5)
    with pytest.raises(LimitReached, match=TOO_MANY_OF_NODE) as reached:
        budget.take("shop", "192.0.2.1", 5, 5)
    assert reached.value.status == 429
    budget.give("shop", "", 6)
    budget.take("shop", "192.0.2.1", 5, 5)
