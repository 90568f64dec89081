"""The gate to authUrl: the order in which requests pass, and the ones that it refuses."""

import asyncio

import pytest

from app.backends import auth_gate
from app.backends.auth_gate import BUSY, DOWN, AuthGate, AuthOutcome
from app.backends.breaker import Breaker
from app.backends.figures import BackendCounts
from app.config.settings import Site
from app.errors import AuthRefused
from tests.support.waiting import until


def make_gate(at_once: int = 1, wait_seconds: float = 5.0, failures: int = 2) -> tuple[AuthGate, BackendCounts]:
    """A gate and its counts."""
    counts = BackendCounts()
    site = Site(name="shop", api_key="k", auth_concurrency=at_once)
    return AuthGate(site, counts, Breaker(failures), wait_seconds), counts


async def ask(gate: AuthGate, was_answered: bool = True) -> None:
    """Passes the gate and reports this outcome."""
    async with gate.passed() as outcome:
        outcome.was_answered = was_answered


async def test_turns_come_in_the_order_of_asking() -> None:
    """The gate bounds the requests at once. The longest waiter is next, and a cancelled waiter is passed over."""
    gate, counts = make_gate(at_once=2)
    inside: list[int] = []
    may_leave = asyncio.Event()

    async def visit(number: int) -> None:
        async with gate.passed() as outcome:
            inside.append(number)
            await may_leave.wait()
            outcome.was_answered = True

    visits = [asyncio.create_task(visit(number)) for number in range(6)]
    await until(lambda: counts.auths_waiting == 4, "four to wait")
    assert inside == [0, 1]
    visits[3].cancel()
    await until(lambda: counts.auths_waiting == 3, "one to give up")
    may_leave.set()
    await asyncio.gather(*visits, return_exceptions=True)
    assert inside == [0, 1, 2, 4, 5]
    assert counts.auths_waiting == 0
    assert sum(counts.auth_wait_seconds.buckets) == 4


async def test_the_row_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the queue is full, one more is refused at once."""
    monkeypatch.setattr(auth_gate, "MAX_WAITING", 1)
    gate, counts = make_gate()
    async with gate.passed():
        waits = asyncio.create_task(ask(gate))
        await until(lambda: counts.auths_waiting == 1, "one to wait")
        with pytest.raises(AuthRefused, match=BUSY):
            await ask(gate)
    await waits
    assert counts.auths == {"too many": 1}


async def test_a_wait_ends() -> None:
    """A request whose turn does not come in time is refused, and its place in the queue is free."""
    gate, counts = make_gate(wait_seconds=0.01)
    async with gate.passed():
        with pytest.raises(AuthRefused, match=BUSY):
            await ask(gate)
    await ask(gate)
    assert (counts.auths, counts.auths_waiting) == ({"too many": 1}, 0)


async def test_those_who_wait_are_refused_when_the_backend_goes_down() -> None:
    """Waiting requests are refused together when the breaker opens, not one after the other after a time-out each."""
    gate, counts = make_gate()
    async with gate.passed() as outcome:
        waiting = [asyncio.create_task(ask(gate, was_answered=False)) for _ in range(5)]
        await until(lambda: counts.auths_waiting == 5, "five to wait")
        outcome.was_answered = False
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(result) for result in results] == ["None", *[DOWN] * 4]
    assert (counts.auth_breaker, counts.auths) == (2, {"not asked": 4})


async def test_each_change_is_logged_and_shown(
    logged: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change to open, half-open or closed gives a log line and a figure."""
    monkeypatch.setattr("app.backends.breaker.FIRST_PAUSE_SECONDS", 0.0)
    gate, counts = make_gate(failures=1)
    await ask(gate, was_answered=False)
    assert counts.auth_breaker == 2
    async with gate.passed() as outcome:
        assert counts.auth_breaker == 1
        outcome.was_answered = True
    assert counts.auth_breaker == 0
    assert [(line["log_level"], line["site"], line["state"]) for line in logged] == [
        ("warning", "shop", "open"),
        ("warning", "shop", "half-open"),
        ("warning", "shop", "closed"),
    ]


async def test_a_request_that_is_given_up_leaves_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is given up is no failure, not even the probe: the next request becomes the probe."""
    monkeypatch.setattr("app.backends.breaker.FIRST_PAUSE_SECONDS", 0.0)
    gate, counts = make_gate(failures=1)
    await ask(gate, was_answered=False)
    with pytest.raises(asyncio.CancelledError):
        async with gate.passed():
            raise asyncio.CancelledError
    await ask(gate)
    assert counts.auth_breaker == 0


async def test_who_enters_at_once_takes_a_place() -> None:
    """The gate is open while a place is free and nobody waits; a place that is left goes to the one that waits."""
    gate, counts = make_gate(at_once=2)
    for _ in range(2):
        assert gate.is_open
        gate.enter()
    assert not gate.is_open
    waits = asyncio.create_task(ask(gate))
    await until(lambda: counts.auths_waiting == 1, "one to wait")
    assert counts.auths_in_flight == 2
    gate.leave(AuthOutcome(was_answered=True))
    # The place is the waiter's, though it has not run yet.
    assert not gate.is_open
    await waits
    assert gate.is_open


async def test_a_place_is_not_lost_with_its_waiter() -> None:
    """A waiter that is cancelled in the moment in which its place comes hands it on."""
    gate, counts = make_gate()
    gate.enter()
    first, second = asyncio.create_task(ask(gate)), asyncio.create_task(ask(gate))
    await until(lambda: counts.auths_waiting == 2, "two to wait")
    gate.leave(AuthOutcome())
    first.cancel()
    await second
    assert first.cancelled()
    assert gate.is_open


async def test_a_gate_with_a_breaker_that_is_not_closed_is_not_open() -> None:
    """The probe, and those that are refused, go the other way."""
    gate, _ = make_gate(failures=1)
    await ask(gate, was_answered=False)
    assert not gate.is_open
