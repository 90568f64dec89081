"""The page of a site's webhook: its state, what is parked, and every attempt."""

from typing import Any, Literal

from app.console.page import ConsolePage
from app.console.parameters import read_place, time_ms, write_place
from app.console.rows import ReadRows, shown_row
from app.journal.row_lists import RowFilter
from app.protocols.operations import Call, ListInputs, Operation, Role, Time, Words

WEBHOOKS = ConsolePage(
    "webhooks", "Webhooks", "webhooks.list", live_seconds=2.0, also={"hook": "webhooks.show"}, keeps="webhooks.test"
)


class AttemptParameters(ListInputs, frozen=True, kw_only=True):
    """Which attempts to list."""

    outcome: Literal["delivered", "retry", "parked", "off", "test"] | None = None
    #: The header webhook-id of the POST.
    webhook_id: Words | None = None
    since: Time | None = None
    until: Time | None = None


def attempt_operations(read_rows: ReadRows) -> list[Operation]:
    """The list of attempts, on these rows."""

    async def run(call: Call) -> dict[str, Any]:
        given: AttemptParameters = call.given
        names = ("outcome", "webhook_id")
        wanted = RowFilter(
            sites=frozenset([call.known_site.name]),
            since=time_ms("since", given.since),
            until=time_ms("until", given.until),
            equal={name: value for name in names if (value := getattr(given, name)) is not None},
        )
        page = await read_rows("webhook_attempts", wanted, given.limit, read_place(given.cursor))
        return {"items": [shown_row(row) for row in page.rows], "cursor": write_place(page.next)}

    summary = "List the attempts to send a site's webhooks, newest first"
    return [Operation("webhooks.list", summary, "GET", "/sites/{site}/webhooks", Role.VIEWER, run, AttemptParameters)]
