"""The operations of webhooks: what operators see of a site's webhook, and do to it."""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from app.errors import RequestRefused
from app.protocols.operations import Call, Inputs, Operation, Role, Time, time_ms
from app.webhooks.hook_site import MAX_ID_CHARACTERS, NO_WEBHOOK, HookSite

#: The time that an operator waits for the answer to a test.
_TEST_SECONDS = 8.0
_STILL_OPEN = "No answer within 8 s. The attempt is listed when it has ended."
_NONE: Mapping[str, Any] = {"state": "none", "waiting": 0, "dropped": 0, "posts": [], "parked": [], "attempts": []}


class PostPath(Inputs, frozen=True, kw_only=True):
    """The id of a POST, as its header webhook-id has it."""

    id: Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARACTERS)]


class Since(Inputs, frozen=True, kw_only=True):
    """A time."""

    #: Without it all that are parked.
    since: Time | None = None


class _Hooks:
    """The operations. Lives as long as the node."""

    def __init__(self, hooked: Mapping[str, HookSite]) -> None:
        self._hooked = hooked

    async def show(self, call: Call) -> dict[str, Any]:
        site = call.known_site
        if site.name not in self._hooked:
            return {**_NONE, "events": []}
        return {**await self._hooked[site.name].overview(), "events": sorted(site.webhook.events)}

    async def test(self, call: Call) -> dict[str, Any]:
        attempt = await self._of(call).test(_TEST_SECONDS)
        return {"ok": True, "attempt": attempt, "remark": None if attempt else _STILL_OPEN}

    async def replay(self, call: Call) -> dict[str, Any]:
        return {"ok": True, "retried": await self._of(call).send_again(call.given.id, 0)}

    async def replay_since(self, call: Call) -> dict[str, Any]:
        since = time_ms("since", call.given.since)
        if not (retried := await self._of(call).send_again("", since or 0)):
            raise RequestRefused("No POST was parked since then.", "not_found", 404)
        return {"ok": True, "retried": retried}

    def _of(self, call: Call) -> HookSite:
        found = self._hooked.get(call.known_site.name)
        if found is None:
            raise RequestRefused(NO_WEBHOOK, "no_webhook", 409)
        return found


def webhook_operations(hooked: Mapping[str, HookSite]) -> list[Operation]:
    """The webhooks of these sites, which may change."""
    do, path, operator = _Hooks(hooked), "/sites/{site}/webhooks", Role.OPERATOR
    return [
        Operation("webhooks.show", "Show the webhook of a site", "GET", f"{path}/state", Role.VIEWER, do.show),
        Operation("webhooks.test", "Send a test", "POST", f"{path}/test", operator, do.test, tells=True),
        Operation(
            "webhooks.replay", "Send a POST again", "POST", f"{path}/posts/{{id}}/replay", operator, do.replay, PostPath
        ),
        Operation(
            "webhooks.replay_since",
            "Send parked POSTs again",
            "POST",
            f"{path}/replay",
            operator,
            do.replay_since,
            Since,
        ),
    ]
