"""The page of transfers: the uploads and downloads of files, and the synchronisations of messengers."""

from typing import Any, Literal

from app.console.page import ConsolePage
from app.console.rows import ReadRows, RowInputs, answer_rows, bound_sites
from app.protocols.operations import Call, Operation, Role, Words

TRANSFERS = ConsolePage("transfers", "Transfers", "transfers.list", live_seconds=3.0, is_shared=True)

TransferDirection = Literal["upload", "download", "synchronisation"]


class TransferInputs(RowInputs, frozen=True, kw_only=True):
    """Which transfers to list."""

    site: Words | None = None
    direction: TransferDirection | None = None
    #: The user room.
    user: Words | None = None
    #: The deviceId.
    device: Words | None = None
    file: Words | None = None
    node: Words | None = None

    @property
    def kind(self) -> TransferDirection | None:
        """The direction, as its column is called."""
        return self.direction


def transfer_operations(read_rows: ReadRows) -> list[Operation]:
    """The list, on these rows. An operator of some sites sees only their transfers."""

    async def run(call: Call) -> dict[str, Any]:
        given: TransferInputs = call.given
        sites = bound_sites(call.caller, given.site)
        equal = ("kind", "user", "device", "file", "node")
        page = await answer_rows(read_rows, "transfers", given, sites, equal)
        return page | {"items": list(map(_told, page["items"]))}

    summary = "List the transfers of files, and the synchronisations of messengers"
    return [Operation("transfers.list", summary, "GET", "/transfers", Role.VIEWER, run, TransferInputs)]


_AS_THEY_ARE = ("id", "at", "site", "node", "user", "device", "file", "bytes", "ms", "client_ms")


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the contract names its parts, with the speed in millions of bytes a second."""
    return {name: row[name] for name in _AS_THEY_ARE} | {
        "application": row["app"],
        "direction": row["kind"],
        "resumed": row["is_resumed"],
        "mb_per_second": _speed(row["bytes"], row["ms"]),
    }


def _speed(count: int | None, ms: int | None) -> float | None:
    """Millions of bytes a second; None: it was too short to tell."""
    return round(count / ms / 1000, 3) if count is not None and ms else None
