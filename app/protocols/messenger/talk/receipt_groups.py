"""Receipts as clients get them: those in a row that differ in their message alone come as one. Plain code."""

from collections.abc import Iterable, Iterator
from itertools import groupby

import msgspec
from msgspec import Struct


class ReceiptRow(Struct, frozen=True):
    """The state of one message at one device."""

    message: int
    user: int
    #: The deviceId.
    device: str
    #: `delivered` or `read`.
    state: str
    at: int
    #: The number of the clock.
    change: int = 0


class Receipt(Struct, frozen=True):
    """The state of messages at one device, as it is sent."""

    ids: list[int]
    user: int
    device: str
    state: str
    at: int


#: The ids of one receipt.
_IDS_OF_ONE = 500


def grouped(rows: Iterable[ReceiptRow]) -> Iterator[tuple[bytes, int]]:
    """Each receipt as JSON, with the change of its last row."""
    for (user, device, state, at), group in groupby(rows, lambda row: (row.user, row.device, row.state, row.at)):
        these = list(group)
        for start in range(0, len(these), _IDS_OF_ONE):
            part = these[start : start + _IDS_OF_ONE]
            yield msgspec.json.encode(Receipt([row.message for row in part], user, device, state, at)), part[-1].change
