"""The keys of a site as they would be had its messages in flight landed; and the rules that hold for them in flight."""

from __future__ import annotations

import re

from tests.store.queue_keys import Store


def at_rest(found: Store) -> Store:
    """The keys of a site after a landing, read from its messages in flight."""
    store = dict(found)
    flights: dict[str, str] = store.pop("flights", {})
    done: dict[str, str] = store.pop("flights:done", {})
    flying = int(store.pop("flying", "0"))
    resting = set(store.pop("resting", []))
    _check_resting(found, resting)
    total = 0
    for seq in sorted(flights, key=int):
        head, _, rest = flights[seq].partition("\n\n")
        left = []
        lines = [line.partition(" ")[::2] for line in head.split("\n")]
        for node, line in lines:
            count, *handles = line.removesuffix(",").split(",")
            assert len(handles) == int(count)
            total += len(handles)
            gone, _, bits = done.pop(f"{seq} {node}", "0,").partition(",")
            mine = [handle for place, handle in enumerate(handles) if not _has_bit(bits, place)]
            assert int(gone) == len(handles) - len(mine)
            left += mine
        assert left, "a flight with nobody left"
        for handle in left:
            # Nothing is in flight to a device whose next messages go into its list.
            assert handle not in resting
            store[f"queue:{handle}"] = [*store.get(f"queue:{handle}", []), seq]
        _land(store, seq, rest, len(left))
    assert not done
    assert flying == total
    if "waiting" in store:
        store["waiting"] = sorted(store["waiting"])
    return store


def _check_resting(found: Store, resting: set[str]) -> None:
    for key, value in found.items():
        if key.startswith("queue:"):
            handle = key.removeprefix("queue:")
            is_connected = any(field.startswith("c:") for field in found.get(f"device:{handle}", {}))
            assert not is_connected or handle in resting, f"{handle} has {value} in its list, and does not rest"


def _land(store: Store, seq: str, rest: str, count: int) -> None:
    first, _, text = rest.partition("\n")
    id, at, event_size, rooms_size = first.split(" ")
    event, rooms, body = re.match(  # type: ignore[union-attr]
        f"(.{{{event_size}}})(.{{{rooms_size}}})(.*)", text, re.DOTALL
    ).groups()
    key = f"body:{seq}"
    if key in store:
        store[key] = {**store[key], "refs": str(int(store[key]["refs"]) + count)}
        return
    store[key] = {"data": body, "event": event, "size": str(len(body)), "at": at, "id": id, "rooms": rooms}
    store[key] |= {"resync": "0", "refs": str(count)}
    store["waiting"] = [*store.get("waiting", []), [id, float(seq)]]


def _has_bit(bits: str, place: int) -> bool:
    data = bits.encode(errors="surrogateescape")
    return len(data) > place >> 3 and bool(data[place >> 3] >> (place & 7) & 1)
