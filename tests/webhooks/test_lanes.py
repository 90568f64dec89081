"""The choice of events for a POST: the order of one user's events, beside any outcome of any post."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from app.webhooks.event import HookPost, OutboxEvent
from app.webhooks.lanes import MAX_EVENTS_PER_POST, MAX_OPEN_POSTS, MAX_POST_BYTES, Lanes


def event(seq: int, *users: str, size: int = 10) -> OutboxEvent:
    """An event of these users."""
    return OutboxEvent(f"1-{seq}".encode(), seq, frozenset(users), "t", b"x" * size)


def post_of(events: list[OutboxEvent], number: int = 0) -> HookPost:
    """The post that carries the events."""
    users = frozenset[str]().union(*(one.users for one in events))
    return HookPost(f"p{number}", users, tuple(one.seq for one in events), "t", 0)


def seqs(events: list[OutboxEvent]) -> list[int]:
    """Their seqs."""
    return [one.seq for one in events]


def test_later_events_of_a_user_wait() -> None:
    """While a post is not answered, events of its users wait, and those of other users go; then all go in order."""
    lanes = Lanes()
    lanes.add([event(1, "a")], 0)
    first = post_of(lanes.choose())
    lanes.open(first)
    lanes.add([event(2, "a"), event(3, "b"), event(4, "a", "c"), event(5, "c"), event(6)], 1)
    chosen = lanes.choose()
    assert seqs(chosen) == [3, 6]
    assert lanes.ready_since() is None
    lanes.close(first)
    assert seqs(lanes.choose()) == [2, 4, 5]


def test_the_bounds_of_a_post() -> None:
    """A POST has at most 100 events, and 1 MB unless one event alone is longer."""
    lanes = Lanes()
    lanes.add([event(number) for number in range(MAX_EVENTS_PER_POST + 5)], 0)
    assert len(lanes.choose()) == MAX_EVENTS_PER_POST
    assert len(lanes.choose()) == 5
    lanes.add([event(200, size=MAX_POST_BYTES + 1), event(201), event(202)], 0)
    assert [seqs(lanes.choose()), seqs(lanes.choose())] == [[200], [201, 202]]


def test_events_are_gathered() -> None:
    """The oldest ready event says since when; a hundred of them need not wait."""
    lanes = Lanes()
    assert lanes.ready_since() is None
    lanes.add([event(1)], 5.0)
    lanes.add([event(2)], 6.0)
    assert lanes.ready_since() == 5.0
    lanes.add([event(number) for number in range(3, 103)], 7.0)
    assert lanes.ready_since() == float("-inf")


def test_posts_without_an_answer_are_bounded() -> None:
    """With a thousand of them further events wait in the outbox."""
    lanes = Lanes([HookPost(f"p{number}", frozenset(), (), "", number) for number in range(MAX_OPEN_POSTS)])
    lanes.add([event(1)], 0)
    assert lanes.ready_since() is None
    lanes.close(lanes.posts["p0"])
    assert lanes.ready_since() == 0
    assert [post.id for post in lanes.due_posts(2)] == ["p1", "p2"]
    assert lanes.next_due_ms() == 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.sampled_from("abc"), max_size=3, unique=True)),
        st.tuples(st.just("choose"), st.just([])),
        st.tuples(st.just("close"), st.integers(0, 5)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_any_order_keeps_the_order_of_each_user(steps: list[tuple[str, object]]) -> None:
    """However posts end, the events of one user are chosen in order, never while a post of this user is open, and none
    is left."""
    lanes = Lanes()
    open_posts: list[HookPost] = []
    chosen: list[OutboxEvent] = []
    count = 0

    def choose() -> bool:
        events = lanes.choose()
        if not events:
            return False
        post = post_of(events, len(chosen))
        assert not post.users & frozenset[str]().union(*(one.users for one in open_posts))
        lanes.open(post)
        open_posts.append(post)
        chosen.extend(events)
        return True

    for kind, given_ in steps:
        if kind == "add":
            count += 1
            assert isinstance(given_, list)
            lanes.add([event(count, *given_)], 0)
        elif kind == "choose":
            choose()
        elif open_posts:
            assert isinstance(given_, int)
            lanes.close(open_posts.pop(given_ % len(open_posts)))
    while open_posts or choose():
        lanes.close(open_posts.pop())
        choose()
    assert len(chosen) == count
    for user in "abc":
        mine = [one.seq for one in chosen if user in one.users]
        assert mine == sorted(mine)
