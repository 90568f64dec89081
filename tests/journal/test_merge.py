"""Entries merged in memory, without Redis and SQL."""

from __future__ import annotations

import json

import pytest

from app.journal.merge import Mark, Merged, counts_of, id_parts, is_behind, joined, merge
from app.journal.states import Fate, reason_number, reason_text
from app.journal.streams import next_id

SEQ = 3_000_000_000


def entry(number: int, kind: str, **fields: object) -> tuple[bytes, list[bytes]]:
    """One entry as Redis answers it."""
    words = {"k": kind, **{name: json.dumps(of) if isinstance(of, list) else str(of) for name, of in fields.items()}}
    return f"{number}-0".encode(), [text.encode("utf-8", "surrogateescape") for pair in words.items() for text in pair]


def send(number: int, to: str = "1,2", **fields: object) -> tuple[bytes, list[bytes]]:
    """A message to two devices."""
    given: dict[str, object] = {"seq": SEQ, "id": 7, "at": 1_000, "event": "news", "size": 3, "rooms": ["a", "b", "a"]}
    return entry(number, "send", **(given | {"opt": "", "to": to, "over": ""} | fields))


def marks(merged: Merged) -> dict[bytes, int]:
    """The states of the message's deliveries."""
    return {handle: int(mark.state) for handle, mark in merged.messages[SEQ].deliveries.items()}


def test_a_message_with_its_acks() -> None:
    """An ack in the same batch leaves one final mark; the time from writing to ack is never below zero."""
    merged = merge([send(1), entry(2, "ack", a=f"one {SEQ} 90 95 1\nbatch {SEQ} 97 95 2")])
    assert marks(merged) == {b"1": Fate.ACKED, b"2": Fate.ACKED}
    first, second = merged.messages[SEQ].deliveries.values()
    assert (first.ms, first.is_batch, second.ms, second.is_batch) == (5, False, 0, True)
    assert merged.messages[SEQ].room_names == ["a", "b"]
    assert (merged.last_id, merged.entries, merged.later) == ("2-0", 2, {})
    assert counts_of(merged.messages[SEQ].deliveries)[Fate.ACKED] == 2


def test_fates_of_earlier_messages() -> None:
    """Without the message in the batch its fates are kept apart; the first final one stays."""
    fate = {"state": "expired", "reason": "ttl", "at": 50}
    merged = merge(
        [
            entry(1, "written", w=f"{SEQ} 40 1,2"),
            entry(2, "fate", d=f"{SEQ} 1", **fate),
            entry(3, "ack", a=f"one {SEQ} 0 95 1,2"),
        ]
    )
    assert merged.messages == {}
    assert merged.later[SEQ][b"1"] == Mark(Fate.EXPIRED, reason_number("ttl"), written_at=40, ended_at=50)
    assert merged.later[SEQ][b"2"] == Mark(Fate.ACKED, written_at=40, acked_at=95, ended_at=95)


def test_further_devices_and_full_queues() -> None:
    """`more` adds devices; a device whose queue ran over is resynced; a fate that came first stays."""
    merged = merge(
        [send(1, "1", over="2"), entry(2, "ack", a=f"one {SEQ} 0 9 3"), entry(3, "more", seq=SEQ, to="3,4", over="5")]
    )
    resynced = Fate.RESYNCED
    assert marks(merged) == {b"1": 0, b"2": resynced, b"3": Fate.ACKED, b"4": 0, b"5": resynced}
    assert reason_text(merged.messages[SEQ].deliveries[b"5"].reason) == "queue full"


def test_a_site_without_queues() -> None:
    """`plain` has no deliveries, and the number of nodes."""
    fields = {"seq": SEQ, "id": 7, "at": 1, "event": "e", "size": 2, "rooms": ["a"], "nodes": 3, "body": '["e"]'}
    message = merge([entry(1, "plain", **fields)]).messages[SEQ]
    assert (message.nodes, message.deliveries, message.body) == (3, {}, '["e"]')


def test_a_loss_is_a_batch_of_its_own() -> None:
    """Entries up to a loss are one batch, the loss the next one: it concerns what they have left in SQL."""
    entries = [send(1), entry(2, "lost", **{"from": 1, "to": 9, "at": 5}), send(3)]
    first = merge(entries)
    assert (first.entries, first.loss) == (1, None)
    second = merge(entries[1:])
    assert second.loss is not None
    assert (second.entries, second.loss.from_seq, second.loss.to_seq) == (1, 1, 9)


@pytest.mark.parametrize(
    "poison",
    [
        entry(1, "unheard of"),
        entry(1, "send", seq=1),
        send(1, to="1,,2"),
        send(1, to="one"),
        send(1, id="1" * 30),
        send(1, seq="-4"),
        send(1, rooms='{"no": "list"}'),
        send(1, opt="[1]"),
        entry(1, "ack", a="one two"),
        entry(1, "ack", a=f"some {SEQ} 1 2 3"),
        entry(1, "fate", state="acked", reason="", at=1, d=f"{SEQ} 1"),
        entry(1, "rows", table="deliveries", rows=[]),
        entry(1, "rows", table="log", rows="[" * 100_000),
        entry(1, "rows", table="log", rows=[{"level": "error"}]),
        entry(1, "lost", **{"from": "x", "to": 1, "at": 1}),
        (b"1-0", [b"k"]),
        (b"1-0", []),
        (b"1-0", [b"k", b"\xff"]),
    ],
)
def test_poison_is_passed_over(poison: tuple[bytes, list[bytes]]) -> None:
    """An entry that cannot be read is counted, and the one behind it is read."""
    merged = merge([poison, send(2)])
    assert merged.unreadable == 1
    assert merged.entries == 2
    assert marks(merged)[b"1"] == Fate.WAITING


def test_texts_that_sql_cannot_hold() -> None:
    """NUL and bytes that are no UTF-8 are replaced; long texts of an index are cut."""
    merged = merge([send(1, event="a\0b\udcff", rooms=["x" * 9_000])])
    message = merged.messages[SEQ]
    assert message.event == "a\ufffdb\ufffd"
    assert len(message.room_names[0]) == 500
    (row,) = merge([entry(1, "rows", table="log", rows=[{"at": 1, "level": "a\0", "event": 5, "x": 1}])]).rows["log"]
    assert (row["level"], row["event"], row["node"]) == ("a\ufffd", "5", None)


def test_rows_that_are_in_sql() -> None:
    """Rows of nodes up to the position are passed over, and later ones read."""
    rows = [entry(number, "rows", table="log", rows=[{"at": number, "level": "e", "event": "e"}]) for number in (1, 2)]
    merged = merge(rows, b"1-0")
    assert [row["at"] for row in merged.rows["log"]] == [2]


def test_marks_join() -> None:
    """A final mark stays; of two times of writing the newer one counts."""
    waiting, written = Mark(Fate.WAITING), Mark(Fate.WRITTEN, written_at=4)
    final = Mark(Fate.ACKED, acked_at=9)
    assert joined(written, waiting) == written
    assert joined(written, Mark(Fate.WRITTEN, written_at=6)).written_at == 6
    assert joined(written, final).written_at == 4
    assert joined(final, Mark(Fate.EXPIRED)) == final


def test_ids_of_entries() -> None:
    """Ids compare by their numbers."""
    assert id_parts("10-2") == (10, 2)
    assert is_behind(b"10-0", b"9-9")
    assert not is_behind(b"9-9", b"9-9")
    assert next_id("5-9") == "5-10"


def test_reasons_keep_their_numbers() -> None:
    """The numbers are in SQL: the words behind them never change."""
    words = ["", "ttl", "device_ttl", "collapse", "settle", "withdrawn", "device forgotten", "queue full"]
    assert [reason_text(number) for number in range(8)] == words
    assert reason_text(reason_number("something new")) == "other"
    assert reason_text(10_000) == "other"
