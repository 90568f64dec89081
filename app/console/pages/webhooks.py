"""The page of a site's webhook: its state, what is parked, and every attempt."""

from typing import Any, Literal

from app.console.page import ConsolePage
from app.console.rows import ReadRows, RowInputs, answer_rows
from app.protocols.operations import Call, Operation, Role, Words

WEBHOOKS = ConsolePage(
    "webhooks",
    "Webhooks",
    "webhooks.list",
    live_seconds=2.0,
    is_shared=True,
    also={"hook": "webhooks.show"},
    keeps="webhooks.test",
)


class AttemptParameters(RowInputs, frozen=True, kw_only=True):
    """Which attempts to list."""

    outcome: Literal["delivered", "retry", "parked", "off", "test"] | None = None
    #: The header webhook-id of the POST.
    webhook_id: Words | None = None


def attempt_operations(read_rows: ReadRows) -> list[Operation]:
    """The list of attempts, on these rows."""

    async def run(call: Call) -> dict[str, Any]:
        given: AttemptParameters = call.given
        sites = frozenset([call.known_site.name])
        return await answer_rows(read_rows, "webhook_attempts", given, sites, ("outcome", "webhook_id"))

    summary = "List the attempts to send a site's webhooks"
    return [Operation("webhooks.list", summary, "GET", "/sites/{site}/webhooks", Role.VIEWER, run, AttemptParameters)]
