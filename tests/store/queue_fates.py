"""The fates of messages at devices as a site's stream `fate` tells them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: (seq, handle) -> state.
Fates = dict[tuple[int, str], str]


def told_fates(entries: Iterable[Mapping[str, str]]) -> Fates:
    """Read a stream from its beginning; fail for a second end of a message at a device, and for an unknown one."""
    fates: Fates = {}
    for entry in entries:
        for seq, handles, state in _lines_of(entry):
            for handle in handles.split(","):
                _move(fates, (seq, handle), state)
    return fates


def _move(fates: Fates, key: tuple[int, str], state: str) -> None:
    if state == "sent":
        assert key not in fates, f"{key} was sent twice"
        fates[key] = "waiting"
        return
    assert fates[key] == "waiting", f"{key} was {fates[key]}, and is {state}"
    fates[key] = state


def _lines_of(entry: Mapping[str, str]) -> Iterable[tuple[int, str, str]]:
    match entry["k"]:
        case "send" | "more":
            if entry["to"]:
                yield int(entry["seq"]), entry["to"], "sent"
            if entry["over"]:
                yield int(entry["seq"]), entry["over"], "sent"
                yield int(entry["seq"]), entry["over"], "resynced"
        case "ack":
            for line in entry["a"].split("\n"):
                _kind, seq, _written, _acked, handles = line.split(" ")
                yield int(seq), handles, "acked"
        case "fate":
            for line in entry["d"].split("\n"):
                seq, handles = line.split(" ")
                yield int(seq), handles, entry["state"]
