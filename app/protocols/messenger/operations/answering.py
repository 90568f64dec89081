"""The answers to operators: sites without a messenger, refusals with their statuses, and places in lists. No I/O."""

from collections.abc import Awaitable, Callable
from typing import Any

from app.config.settings import Site
from app.errors import RequestRefused
from app.protocols.messenger.answers import ChatRefusal, ChatUnavailable
from app.protocols.messenger.directory.rules import ChatDoer
from app.protocols.messenger.settings import Messenger
from app.protocols.operations import Call, Operation, Role

#: The statuses of refusals; the others are 400.
_STATUS = {"unknown_user": 404, "unknown_room": 404, "of_backend": 409}
#: No id has more digits.
_ID_DIGITS = 16

Run = Callable[[Call], Awaitable[Any]]


def has_messenger(site: Site) -> bool:
    """Whether the site has a directory."""
    return site.section(Messenger) is not None


def seeing(name: str, summary: str, path: str, run: Run, parameters: Any) -> Operation:
    """A list or a single thing, behind the path of a site."""
    of_site = "/sites/{site}" + path
    return Operation(name, summary, "GET", of_site, Role.VIEWER, _refusing(run), parameters, suits=has_messenger)


def acting(name: str, summary: str, request: tuple[str, str], run: Run, parameters: Any, **more: Any) -> Operation:
    """An action; `request` is its method and its path behind that of a site."""
    method, path = request
    of_site = "/sites/{site}" + path
    return Operation(
        name, summary, method, of_site, Role.OPERATOR, _refusing(run), parameters, suits=has_messenger, **more
    )


def _refusing(run: Run) -> Run:
    """The same, with refusals of the directory as those of the API."""

    async def answer(call: Call) -> Any:
        try:
            return await run(call)
        except ChatUnavailable as refusal:
            raise RequestRefused(str(refusal), "journal_unavailable", 503) from None
        except ChatRefusal as refusal:
            raise RequestRefused(str(refusal), refusal.code, _STATUS.get(refusal.code, 400)) from None

    return answer


def doer_of_call(call: Call) -> ChatDoer:
    """The operator, as the history of the directory names it."""
    return ChatDoer(f"operator:{call.caller.name}")


def place_of(cursor: str | None) -> int | None:
    """The id behind which a page begins; None: the first page. Raises RequestRefused."""
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= _ID_DIGITS):
        raise RequestRefused("cursor: expected the cursor of a page of this list.")
    return int(cursor)


def page_of(items: list[dict[str, Any]], last: int | None) -> dict[str, Any]:
    """A page of a list; `last` is the id at its end, None: there is no further page."""
    return {"items": items, "cursor": None if last is None else str(last)}
