"""Catch-up: any interleaving of live messages and pages of the past gives every message once and in order, or a gap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core import catch_up
from app.core.catch_up import MAX_BYTES, MAX_MESSAGES, CatchUp


def held(*numbers: int, size: int = 1) -> CatchUp[str]:
    """A buffer that holds these messages."""
    buffer: CatchUp[str] = CatchUp()
    for number in numbers:
        buffer.hold(number, size, str(number))
    return buffer


def test_only_messages_behind_the_page_are_released() -> None:
    """The page covers messages up to its number; the later ones follow in the order of their arrival, once."""
    buffer = held(3, 4, 7, 7, 9)
    assert buffer.release(4) == ["7", "7", "9"]
    assert buffer.release(0) == []
    assert not buffer.has_gap


def test_bounds_are_those_of_a_default_page() -> None:
    """The buffer holds as many messages, and as many bytes, as the default `batch_limit` allows one page."""
    assert (MAX_MESSAGES, MAX_BYTES) == (1_000, 1_000_000)


@pytest.mark.parametrize(("count", "size"), [(MAX_MESSAGES, 1), (1, MAX_BYTES), (4, MAX_BYTES // 4)])
def test_bound_itself_is_held_and_one_more_is_a_gap(count: int, size: int) -> None:
    """At either bound everything is held; the next message empties the buffer and leaves a gap."""
    buffer = held(*range(count), size=size)
    assert not buffer.has_gap
    assert len(buffer.release(-1)) == count
    buffer = held(*range(count), size=size)
    buffer.hold(count, 1, "over")
    assert buffer.has_gap
    assert (buffer._messages, buffer._numbers, buffer._bytes) == ([], [], 0)


def test_nothing_is_held_behind_a_gap() -> None:
    """A message behind a gap would overtake the missing ones: it is read from the past with them."""
    buffer = held(1, 2)
    buffer.lose()
    buffer.hold(4, 1, "4")
    assert buffer._messages == []
    with pytest.raises(AssertionError, match="gap"):
        buffer.release(0)


def test_next_page_closes_the_gap() -> None:
    """A message that was heard before the question is in the answer; a message that is heard later is held again."""
    buffer = held(1, 2)
    buffer.lose()
    buffer.restart()
    buffer.hold(5, 1, "5")
    assert not buffer.has_gap
    assert buffer.release(4) == ["5"]


class Owner:
    """A client that has to get every message of a log: it reads pages of the past, then live messages. Lives for one
    course of events, whose order the test decides."""

    def __init__(self, past_holds: int, page: int) -> None:
        """The past keeps the last `past_holds` messages and answers at most `page` of them at once."""
        self._past_holds = past_holds
        self._page = page
        #: Messages published so far, and those of them on the way to this owner.
        self.published = 0
        self._on_the_way: list[int] = []
        #: The question, its answer once the past has given it, and the buffer while the owner catches up.
        self._is_asked = False
        self._answer: tuple[bool, list[int], int] | None = None
        self._buffer: CatchUp[int] | None = None
        self.got: list[int] = []
        #: The client was told that messages between these two are missing.
        self.told: list[tuple[int, int]] = []
        self._covered = 0
        self.ask()

    # The course of events

    def publish(self) -> None:
        """Puts a message into the past and on its way to the owner."""
        self.published += 1
        self._on_the_way.append(self.published)

    def hear(self) -> None:
        """The owner hears the oldest message on the way."""
        if self._on_the_way:
            number = self._on_the_way.pop(0)
            if self._buffer is not None:
                self._buffer.hold(number, number % 3, number)
            elif number > self._covered:
                self._deliver(number)

    def lose(self) -> None:
        """Breaks the link of live messages: the messages on the way are lost, and the owner notices the break."""
        self._on_the_way.clear()
        if self._buffer is None:
            self.ask()
        else:
            self._buffer.lose()

    def run(self) -> None:
        """The past answers the question, and the answer is on its way."""
        if self._is_asked and self._answer is None:
            oldest = max(1, self.published - self._past_holds + 1)
            first = max(self._covered + 1, oldest)
            numbers = list(range(first, self.published + 1))
            self._answer = (first == self._covered + 1, numbers[: self._page], self.published)

    def receive(self) -> None:
        """The answer arrives."""
        if self._answer is None:
            return
        (is_complete, numbers, last), self._answer, self._is_asked = self._answer, None, False
        if not is_complete:
            self.told.append((self._covered, (numbers or [last + 1])[0]))
        for number in numbers:
            self._deliver(number)
        has_more = bool(numbers) and numbers[-1] < last
        self._covered = numbers[-1] if has_more else last
        assert self._buffer is not None
        if has_more or self._buffer.has_gap:
            self.ask()
            return
        buffer, self._buffer = self._buffer, None
        for number in buffer.release(self._covered):
            self._deliver(number)

    def ask(self) -> None:
        """The owner asks for the next page."""
        if self._buffer is None:
            self._buffer = CatchUp()
        else:
            self._buffer.restart()
        self._is_asked = True

    def finish(self) -> None:
        """Everything on its way arrives."""
        while self._on_the_way or self._is_asked:
            self.hear()
            self.run()
            self.receive()

    def _deliver(self, number: int) -> None:
        self.got.append(number)
        self._covered = max(self._covered, number)


STEPS: Sequence[Callable[[Owner], None]] = [Owner.publish, Owner.hear, Owner.lose, Owner.run, Owner.receive]


@given(
    steps=st.lists(st.sampled_from([*STEPS, Owner.publish, Owner.publish, Owner.hear]), max_size=120),
    past_holds=st.sampled_from([2, 5, 1_000]),
    page=st.integers(1, 6),
    bound=st.integers(1, 8),
)
@settings(max_examples=300, deadline=None)
def test_every_message_comes_once_and_in_order_or_its_loss_is_told(
    steps: list[Callable[[Owner], None]], past_holds: int, page: int, bound: int
) -> None:
    """In any order of messages, questions, answers and interruptions the client gets each message once and in order. A
    message that it does not get had left the past, and the client was told of the loss."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catch_up, "MAX_MESSAGES", bound)
        owner = Owner(past_holds, page)
        for step in steps:
            step(owner)
        owner.finish()
    assert owner.got == sorted(set(owner.got))
    missing = set(range(1, owner.published + 1)) - set(owner.got)
    assert missing == {number for after, before in owner.told for number in range(after + 1, before)}
    if past_holds == 1_000:
        assert not owner.told


@given(
    messages=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40),
    max_messages=st.integers(1, 20),
    max_bytes=st.integers(1, 60),
)
@settings(deadline=None)
def test_buffer_is_bounded_whatever_it_is_given(
    messages: list[tuple[int, int]], max_messages: int, max_bytes: int
) -> None:
    """The buffer never holds more than either bound allows, and has a gap exactly when it was given more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catch_up, "MAX_MESSAGES", max_messages)
        patch.setattr(catch_up, "MAX_BYTES", max_bytes)
        buffer: CatchUp[tuple[int, int]] = CatchUp()
        for message in messages:
            buffer.hold(*message, message)
            assert len(buffer._messages) <= max_messages
            assert sum(size for _, size in buffer._messages) == buffer._bytes <= max_bytes
        is_too_much = len(messages) > max_messages or sum(size for _, size in messages) > max_bytes
        assert buffer.has_gap == is_too_much
