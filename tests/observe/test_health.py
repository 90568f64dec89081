"""When a node is ready."""

import pytest

from app.observe.health import Health


@pytest.mark.parametrize("redis", [True, False])
@pytest.mark.parametrize("bus", [True, False])
def test_ready_when_every_check_holds(redis: bool, bus: bool) -> None:
    """One check that does not hold makes the node not ready, and each check is named."""
    health = Health({"redis": lambda: redis, "bus": lambda: bus})
    assert health.check() == {"redis": redis, "bus": bus, "accepting": True}
    assert health.is_ready is (redis and bus)


def test_draining_node_is_not_ready() -> None:
    """A node that drains is not ready again."""
    health = Health({"redis": lambda: True})
    health.start_draining()
    health.start_draining()
    assert not health.is_ready
    assert health.check() == {"redis": True, "accepting": False}


def test_a_notice_is_shown_and_takes_no_readiness() -> None:
    """Something of one tenant that does not work is no reason to take the node from the others."""
    health = Health({"redis": lambda: True}, {"one tenant's": lambda: False})
    assert health.notices() == {"one tenant's": False}
    assert health.is_ready


def test_notices_are_replaced() -> None:
    """A tenant that comes later has its notice, and one that has gone has none."""
    health = Health({}, {"one tenant's": lambda: False})
    health.set_notices({"another's": lambda: True})
    assert health.notices() == {"another's": True}
