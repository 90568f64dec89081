"""Operations: the things that operators see and do, each declared once. The console shows them and serves them as API.

A part of a node adds its own to `NodeServices.operations`. Plain values, which know neither HTTP nor pages.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import IntEnum
from typing import Annotated, Any

from msgspec import Meta, Struct

from app.config.settings import Site
from app.config.wording import matching
from app.errors import RequestRefused

#: The items of a page, unless the request says otherwise; and the most that it may ask for.
DEFAULT_ITEMS = 50
MAX_ITEMS = 1_000
#: The longest name, id or word among the parameters, in characters, and the longest cursor.
MAX_TEXT = 1_024
MAX_CURSOR = 16_384

#: A text that both databases can hold.
Words = Annotated[str, Meta(max_length=MAX_TEXT), matching(r"^[^\x00]+\Z", "a text, not empty, without a NUL")]
#: The name of a node, which is shorter than this.
NodeName = Annotated[str, Meta(max_length=64), matching(r"^[0-9a-f]+\Z", "the name of a node")]
ItemLimit = Annotated[int, Meta(ge=1, le=MAX_ITEMS)]
Cursor = Annotated[str, Meta(min_length=1, max_length=MAX_CURSOR)]
Time = Annotated[
    str,
    matching(
        r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)?\Z", "a time like 2026-01-31T12:00:00Z"
    ),
]

#: The last time that answers can show: the end of the year 9999.
_LAST_MS = 253_402_300_799_999

_IN_PATH = re.compile(r"\{(\w+)\}")


class Role(IntEnum):
    """The rights of an operator. A greater one may also do everything of the smaller ones."""

    #: Sees his sites.
    VIEWER = 1
    #: Acts on his sites.
    OPERATOR = 2
    #: Sees and does everything.
    ADMIN = 3


class Actor(Struct, frozen=True):
    """The operator behind a request. Lives as long as the request."""

    name: str
    role: Role
    #: The sites that it may know of; None: every site.
    sites: frozenset[str] | None = None

    def knows(self, site: str) -> bool:
        """Whether it may know of a site."""
        return self.sites is None or site in self.sites


class Call(Struct, frozen=True):
    """One use of an operation. Lives as long as the request."""

    caller: Actor
    #: The values of the operation's parameters.
    given: Any
    #: The site of an operation whose path names one.
    site: Site | None = None

    @property
    def known_site(self) -> Site:
        """The site, for operations whose path names one."""
        assert self.site is not None, "the path of the operation has {site}"
        return self.site


class Inputs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of an operation: those in its path, and those of its query or body. Lives as long as the call."""


class ListInputs(Inputs, frozen=True, kw_only=True):
    """The parameters of every list."""

    limit: ItemLimit = DEFAULT_ITEMS
    #: Where the page begins, as the page before has told.
    cursor: Cursor | None = None


class Operation(Struct, frozen=True):
    """A list, a single thing, or an action. Lives as long as the node."""

    #: `<things>.<verb>`, such as `operators.add`. No two have the same.
    name: str
    #: One line for the API's description.
    summary: str
    #: GET for what changes nothing.
    method: str
    #: Behind `/api/v1`. `{site}` in it: the caller must know the site. Other names in braces are parameters.
    path: str
    #: The least role. A caller with fewer sites than all may call an operation without `{site}` when its role suffices:
    #: such an operation looks at `Call.caller` itself.
    role: Role
    #: Answers JSON values; for a list `{"items": [...], "cursor": ...}`. Raises RequestRefused, StoreError.
    run: Callable[[Call], Awaitable[Any]]
    parameters: type[Struct] = Inputs
    #: Whether a page asks for the password first.
    hurts: bool = False
    #: Inputs that no record shows.
    secrets: frozenset[str] = frozenset()
    #: Whether a page shows the answer of an action; it is not shown again.
    tells: bool = False
    #: Whether a site has what it is about; of other sites it is refused, and no page leads to it.
    suits: Callable[[Site], bool] = lambda site: True
    #: Inputs whose fields in a form count also when they are empty; other empty fields are as if not given.
    takes_empty: frozenset[str] = frozenset()

    @property
    def is_action(self) -> bool:
        """Whether it changes something."""
        return self.method != "GET"

    @property
    def is_of_site(self) -> bool:
        """Whether its path names a site."""
        return "site" in self.path_names

    @property
    def path_names(self) -> list[str]:
        """The names in braces of its path."""
        return _IN_PATH.findall(self.path)


def time_ms(name: str, text: str | None) -> int | None:
    """A time as ms since the epoch; without a zone it is UTC. None: not given. Raises RequestRefused."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text.upper())
        ms = round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
        return min(max(0, ms), _LAST_MS)
    except (ValueError, OverflowError):
        raise RequestRefused(f"{name}: expected a time like 2026-01-31T12:00:00Z.") from None
