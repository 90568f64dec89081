"""The order within a claim, against a model: a message is sent after the earlier ones of its rooms."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.outbox.plan import Results, SendPlan
from app.outbox.row import CommittedMessage, Meaning, Verdict


def row(position: int, *rooms: str, site: str = "shop") -> CommittedMessage:
    """A message to these rooms."""
    keys = tuple(f"{site}/{room}" for room in rooms)
    return CommittedMessage(position=position, id=position, site=site, keys=keys, bytes=1, resync=False, attempts=0)


def taken(plan: SendPlan) -> list[CommittedMessage]:
    """Everything that may be sent now."""
    found = []
    while (one := plan.take()) is not None:
        found.append(one)
    return found


def test_a_room_is_sent_one_by_one() -> None:
    """Messages without a common room are sent together, one behind another is sent after it."""
    results = Results()
    rows = [row(1, "a"), row(2, "b"), row(3, "a", "b"), row(4, "c"), row(5, "b")]
    plan = SendPlan(rows, results)
    first = taken(plan)
    assert [one.position for one in first] == [1, 2, 4]
    plan.settle(first[0], Verdict(Meaning.SENT))
    assert taken(plan) == []
    plan.settle(first[1], Verdict(Meaning.PARKED, "400: no"))
    (third,) = taken(plan)
    plan.settle(third, Verdict(Meaning.SENT, is_replayed=True))
    (last,) = taken(plan)
    plan.settle(last, Verdict(Meaning.LATER, "500", 2.0))
    assert results == Results(sent=[1, 3], parked=[(2, "400: no")], later=[(5, 2.0, "500")], replayed=1)


def test_a_site_that_waits_holds_its_messages() -> None:
    """After a refusal of a site its messages are not taken, those of other sites are; after one of the server, none."""
    plan = SendPlan([row(1, "a"), row(2, "b"), row(3, "a", site="news"), row(4, "b", site="news")], Results())
    first = plan.take()
    assert first
    plan.settle(first, Verdict(Meaning.SITE_WAITS, "429: slowly", 3.0))
    third = plan.take()
    assert third
    assert third.position == 3
    plan.settle(third, Verdict(Meaning.SERVER_WAITS, "503: away"))
    assert plan.take() is None
    assert {name: verdict.reason for name, verdict in plan.waits.items()} == {"shop": "429: slowly", "": "503: away"}


@given(
    st.lists(st.tuples(st.sampled_from(("shop", "news")), st.sets(st.sampled_from("abcd"), min_size=1)), max_size=20),
    st.data(),
)
def test_the_order_holds(messages: list[tuple[str, set[str]]], data: st.DataObject) -> None:
    """With any answers in any order: a message is taken once, after all earlier ones of its rooms are sent or
    parked, and without refusals that pass all of them are."""
    rows = [row(number, *rooms, site=site) for number, (site, rooms) in enumerate(messages)]
    plan, over, under_way = SendPlan(rows, Results()), set[int](), list[CommittedMessage]()
    are_final = True
    while True:
        for one in taken(plan):
            before = [other for other in rows if other.position < one.position and {*other.keys} & {*one.keys}]
            assert {other.position for other in before} <= over
            assert one.position not in over
            assert one not in under_way
            under_way.append(one)
        if not under_way:
            break
        answered = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
        meaning = data.draw(st.sampled_from(Meaning))
        if meaning in (Meaning.SENT, Meaning.PARKED):
            over.add(answered.position)
        else:
            are_final = False
        plan.settle(answered, Verdict(meaning))
    if are_final:
        assert over == {one.position for one in rows}
    assert {*plan.results.sent, *(position for position, _ in plan.results.parked)} == over
