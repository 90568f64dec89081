"""Pages as HTML: the templates, and what all of them know. Every text in them is escaped; there is no other way in."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from msgspec import Struct

from app.clock import now_ms, rfc3339
from app.console.desk import Desk
from app.console.entry import Visit
from app.console.page import ConsolePage
from app.console.session_cookie import ROOT
from app.protocols.operations import Operation

#: The sites that the menu names; the others are found on the page of all sites.
MAX_SITES_SHOWN = 100
#: Stands for the token of a session's forms. Nobody knows it, so that it is in no text that a client has chosen.
TOKEN_PLACE = secrets.token_urlsafe(24)
#: The values that every template knows, before somebody has logged in.
_NOBODY: dict[str, Any] = {"visit": None, "page": None, "csrf": "", "notice": "", "menu": [], "url_root": ROOT}


class PageState(Struct, frozen=True):
    """The address of a page, taken apart. Lives as long as the request."""

    path: str
    #: The parameters in the query, as given.
    query: Mapping[str, Any]
    #: The site in the path, or the one that the menu leads to; None: the operator has none.
    site: str | None

    @property
    def url(self) -> str:
        """The address."""
        return with_query(self.path, self.query)


class Views:
    """The templates of one node. Lives as long as the node."""

    def __init__(self, desk: Desk, pages: Sequence[ConsolePage]) -> None:
        self._desk = desk
        self._pages = pages
        self._templates = Environment(
            loader=FileSystemLoader(str(files("app.console") / "templates")),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"time": time_of, "bytes": bytes_of, "number": number_of, "json": json_of}

    def page(self, page: ConsolePage, visit: Visit, state: PageState, answers: Mapping[str, Any]) -> str:
        """A whole page."""
        context = self._context(visit, state) | {"page": page, "title": page.title, "told": None, **answers}
        return self._templates.get_template(f"{page.name}.html").render(context)

    def live_part(self, page: ConsolePage, visit: Visit, state: PageState, answers: Mapping[str, Any]) -> str:
        """The block `live` of a page, as its stream brings it to each session: forms have TOKEN_PLACE for a token."""
        template = self._templates.get_template(f"{page.name}.html")
        context = self._context(visit, state) | {"page": page, "title": page.title, "csrf": TOKEN_PLACE, **answers}
        return "".join(template.blocks["live"](template.new_context(context)))

    def plain(self, name: str, visit: Visit | None, **values: Any) -> str:
        """A page that shows no operation: login, a refusal, the question for a password."""
        context = self._context(visit, PageState(ROOT, {}, self._first_site(visit))) if visit is not None else {}
        return self._templates.get_template(f"{name}.html").render(_NOBODY | context | values)

    def menu(self, visit: Visit) -> list[dict[str, Any]]:
        """The pages that an operator may see."""
        return self._menu(visit, PageState(ROOT, {}, self._first_site(visit)))

    def state(self, visit: Visit, path: str, query: Mapping[str, Any], site: str | None) -> PageState:
        """The state of a page, with a site for the menu."""
        return PageState(path, query, site or self._first_site(visit))

    def _first_site(self, visit: Visit | None) -> str | None:
        sites = self._desk.sites_of(visit.operator.caller) if visit is not None else []
        return sites[0] if sites else None

    def _context(self, visit: Visit, state: PageState) -> dict[str, Any]:
        caller = visit.operator.caller
        sites = self._desk.sites_of(caller)
        return {
            "visit": visit,
            "csrf": visit.session.csrf,
            "notice": visit.session.notice,
            "url_root": ROOT,
            "state": state,
            "live_url": with_query(f"{ROOT}/live{state.path.removeprefix(ROOT)}", state.query),
            "site_url": lambda name: self._site_path(visit, name),
            "sites": sites[:MAX_SITES_SHOWN],
            "menu": self._menu(visit, state),
            "now": now_ms(),
            "series": chart_series,
            "may": lambda name: self._desk.may(caller, name),
            "operation": self._desk.operations.get,
            "url": self._url_in(state),
            "here": lambda **changes: with_query(state.path, {**state.query, **changes}),
        }

    def _menu(self, visit: Visit, state: PageState) -> list[dict[str, Any]]:
        caller = visit.operator.caller
        entries = []
        for page in self._pages:
            operation = self._desk.operations.get(page.shows)
            if not page.is_in_menu or operation is None or caller.role < operation.role:
                continue
            if operation.is_of_site and (state.site is None or not self._desk.suits(operation, state.site)):
                continue
            path = page_path(operation, {"site": state.site})
            is_here = path == state.path
            entries.append({"title": page.title, "url": path, "is_here": is_here, "is_of_site": operation.is_of_site})
        return entries

    def _site_path(self, visit: Visit, site: str) -> str:
        """The first page about a site."""
        entries = self._menu(visit, PageState(ROOT, {}, site))
        return next((entry["url"] for entry in entries if entry["is_of_site"]), ROOT)

    def _url_in(self, state: PageState) -> Callable[..., str]:
        """The address of the page of an operation: `url("messages.show", id=5)`. The site is the state's own."""

        def url(name: str, **given: Any) -> str:
            operation = self._desk.operations[name]
            given = {"site": state.site, **given} if operation.is_of_site else given
            rest = {key: value for key, value in given.items() if key not in operation.path_names}
            return with_query(page_path(operation, given), rest)

        return url


def page_path(operation: Operation, given: Mapping[str, Any]) -> str:
    """The path of the page that shows an operation."""
    path = operation.path
    for name in operation.path_names:
        path = path.replace(f"{{{name}}}", quote(str(given.get(name, "")), safe=""))
    return ROOT + path


def with_query(path: str, query: Mapping[str, Any]) -> str:
    """The address with a query; values that are None are left out."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def chart_series(points: Sequence[Mapping[str, Any]], lines: Mapping[str, str]) -> dict[str, Any]:
    """A chart for the script: the times of the points in seconds, and for each label the values of a figure."""
    series = [{"label": label, "values": [point[name] for point in points]} for label, name in lines.items()]
    return {"x": [datetime.fromisoformat(point["at"]).timestamp() for point in points], "series": series}


def time_of(value: int | str | None) -> str:
    """A time as text of the API, from ms since the epoch too; "" for none."""
    return "" if value is None else rfc3339(value) if isinstance(value, int) else value


def bytes_of(value: float | None) -> str:
    """A size in a short form."""
    if value is None:
        return "-"
    for unit in ("B", "KB", "MB", "GB"):
        if abs(value) < 1024 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the last unit takes every size")


def number_of(value: float | None) -> str:
    """A number with commas; at most two digits behind the point."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}".rstrip("0").rstrip(".")


def json_of(value: object) -> str:
    """A value as JSON."""
    return msgspec.json.encode(value).decode()
