"""Any order of events over two nodes, while nodes, Redis and the database are killed: every history is equal and in one
order, nobody sees what was not for it, no message is lost or doubled, and every receipt arrives.

Clients are real sockets; nodes, Valkey and PostgreSQL are real processes. RECADO_MACHINE_RUNS=100 makes the long form
longer.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.protocols.messenger.nodes.comparison import ComparedRun
from tests.protocols.messenger.nodes.phone import KINDS
from tests.protocols.messenger.nodes.run import DEVICES, PLACES, USERS, WORDS
from tests.protocols.messenger.nodes.world import PARTS, World
from tests.support.connector import Drivers
from tests.support.postgres import running_postgres

devices = st.integers(0, len(DEVICES) - 1)
users = st.sampled_from(USERS)
words = st.sampled_from(WORDS)
parts = st.sampled_from(PARTS)
places = st.sampled_from(PLACES)
rooms = st.integers(0, 1)


class _Machine(RuleBasedStateMachine):
    """One run. Its end compares everything."""

    world: ClassVar[World]
    drivers: ClassVar[Drivers]
    #: The steps so far by their names.
    steps: ClassVar[Counter[str]]

    def __init__(self) -> None:
        """Begin with everything up."""
        super().__init__()
        self.world.heal(are_all=True)
        self.run = ComparedRun(self.world, self.drivers)

    def teardown(self) -> None:
        """Everything is whole again, and agrees."""
        self.steps.update(text.split(" ", maxsplit=1)[0] for text in self.run.steps)
        self.run.end()


class ShortMachine(_Machine):
    """A machine whose every step is drawn at once: few short runs have steps of many kinds."""

    count = 0

    def __init__(self) -> None:
        """Begin with members that come and go between messages: few random steps may have none of it."""
        super().__init__()
        self.run.send(0, 3, "apple")
        self.run.move(0, 2, True)
        self.run.leave(0, 1)
        self.run.send(0, 3, "berry")

    @rule(luck=st.integers(0, 2**32 - 1))
    def step(self, luck: int) -> None:
        """Any step."""
        self.count += 1
        self.run.step(random.Random(f"{luck} {self.count}"))


class LongMachine(_Machine):
    """A machine with a rule for each step."""

    @rule(device=devices, place=places, word=words)
    def send(self, device: int, place: int, word: str) -> None:
        """A message is sent."""
        self.run.send(device, place, word)

    @rule(
        sends=st.lists(st.tuples(devices, places, words), min_size=2, max_size=12),
        fault=st.one_of(st.none(), parts),
        behind=st.integers(0, 11),
        mover=st.one_of(st.none(), st.tuples(users, st.booleans())),
    )
    def burst(
        self, sends: list[tuple[int, int, str]], fault: str | None, behind: int, mover: tuple[int, bool] | None
    ) -> None:
        """Messages are sent at once."""
        self.run.burst(sends, fault, behind, mover)

    @rule(place=st.integers(0, 99), device=devices, word=st.one_of(words, st.none()), is_own=st.booleans())
    def change(self, place: int, device: int, word: str | None, is_own: bool) -> None:
        """A message is changed."""
        self.run.change(place, device, word, is_own)

    @rule(room=rooms, user=users, is_in=st.booleans())
    def move(self, room: int, user: int, is_in: bool) -> None:
        """A member comes or goes."""
        self.run.move(room, user, is_in)

    @rule(room=rooms, user=users)
    def leave(self, room: int, user: int) -> None:
        """A member leaves."""
        self.run.leave(room, user)

    @rule(room=rooms)
    def open_history(self, room: int) -> None:
        """A room's history is opened."""
        self.run.open_history(room)

    @rule(user=users, other=users, is_blocked=st.booleans())
    def block(self, user: int, other: int, is_blocked: bool) -> None:
        """A user blocks another."""
        self.run.block(user, other, is_blocked)

    @rule(device=devices, most=st.integers(1, 5))
    def read(self, device: int, most: int) -> None:
        """Messages are read."""
        self.run.read(device, most)

    @rule(device=devices, kind=st.sampled_from(KINDS))
    def cut(self, device: int, kind: Any) -> None:
        """A device goes away."""
        self.run.cut(device, kind)

    @rule(device=devices, size=st.sampled_from((1_024, 4_000, 262_144)))
    def synchronise(self, device: int, size: int) -> None:
        """A device takes a part."""
        self.run.synchronise(device, size)

    @rule(part=parts)
    def kill(self, part: str) -> None:
        """Something is killed."""
        self.run.kill(part)

    @rule(part=parts)
    def start(self, part: str) -> None:
        """Something is started again."""
        self.run.start(part)

    @rule(user=users)
    def disable(self, user: int) -> None:
        """A user is disabled for a moment."""
        self.run.disable(user)


@contextlib.contextmanager
def world_of(kind: str, folders: pytest.TempPathFactory) -> Iterator[World]:
    """Two nodes with a database of this kind."""
    with contextlib.ExitStack() as stack:
        if kind == "sqlite":
            world = World(f"sqlite:///{folders.mktemp('nodes') / 'journal.sqlite'}", None)
        else:
            postgres = stack.enter_context(running_postgres())
            world = World(postgres.new_database(), postgres)
        stack.callback(world.close)
        yield world


def drive(machine: Any, world: World, drivers: Drivers, runs: int, steps: int) -> str:
    """Run a machine; the story of it."""
    machine.world, machine.drivers, machine.steps = world, drivers, Counter()
    began_at = time.monotonic()
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=steps,
            database=None,
            deadline=None,
            # A run is not the same again: nothing smaller is looked for.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    return f"{sum(machine.steps.values())} steps in {time.monotonic() - began_at:.0f} s: {dict(machine.steps)}"


@pytest.mark.timeout(240)
def test_some_events_and_kills(
    tmp_path_factory: pytest.TempPathFactory, drivers: Drivers, tell: Callable[[str], None]
) -> None:
    """The promises of conversations hold for a few steps of every kind, with PostgreSQL, over kills of everything."""
    with world_of("postgres", tmp_path_factory) as world:
        tell(drive(seed(14)(ShortMachine), world, drivers, 2, 9))


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("machine", [ShortMachine, LongMachine])
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_any_order_of_events_and_kills(
    kind: str,
    machine: Any,
    tmp_path_factory: pytest.TempPathFactory,
    drivers: Drivers,
    pytestconfig: pytest.Config,
    tell: Callable[[str], None],
) -> None:
    """The same for any order of many steps."""
    runs = int(os.environ.get("RECADO_MACHINE_RUNS", "20"))
    with world_of(kind, tmp_path_factory) as world:
        tell(drive(seed(pytestconfig.option.seed)(machine), world, drivers, runs, 40))
