"""The pages of operators over HTTP: login, pages, live streams, actions. Nothing but the login answers a stranger."""

import hmac
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from app.console.desk import Desk, check_role
from app.console.entry import Entry, Visit
from app.console.failures import refusal_of
from app.console.files import ConsoleFiles
from app.console.oidc import OidcLogin
from app.console.oidc_pages import PLACE, OidcPages
from app.console.page import ConsolePage
from app.console.parameters import MAX_PARAMETERS, gathered, names_in_path
from app.console.session_cookie import (
    LOGIN,
    ROOT,
    SESSION_COOKIE,
    address_of,
    cookie_of,
    html_answer,
    own_path,
    set_cookie,
)
from app.console.streams import LiveStreams, LiveView
from app.console.views import TOKEN_PLACE, PageState, Views, page_path, with_query
from app.errors import RecadoError, RequestRefused
from app.protocols.http_request import Receive, Scope, Send, fields_in, first_values, read_body
from app.protocols.operations import Operation

#: The longest form, and the longest of a stranger: name and password.
MAX_FORM_BYTES = 262_144
MAX_LOGIN_BYTES = 4_096
_STATIC = f"{ROOT}/static/"
_LIVE = f"{ROOT}/live"
_PASSWORD = "_password"
_UNKNOWN = RequestRefused("There is no such page.", "unknown_path", 404)
_OWN_FIELDS = ("_csrf", "_back", _PASSWORD)
HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    # Not `no-referrer`: then a form of these pages would have no Origin.
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=()",
}


class ConsolePages:
    """Answers every path below `/console`. Lives as long as the node."""

    def __init__(
        self,
        desk: Desk,
        entry: Entry,
        streams: LiveStreams,
        pages: Sequence[ConsolePage],
        provider: OidcLogin | None = None,
    ) -> None:
        """`provider`: where operators log in who have no password here; None: there is none."""
        self._desk = desk
        self._entry = entry
        self._streams = streams
        #: The pages whose operations this node has.
        self._pages = [page for page in pages if page.shows in desk.operations]
        self._views = Views(desk, self._pages)
        self._files = ConsoleFiles()
        self._oidc = None if provider is None else OidcPages(provider, entry, self._views.plain)
        self._inside = Starlette(routes=list(self._routes()), exception_handlers=self._handlers())

    def _routes(self) -> Sequence[Route]:
        routes = [
            Route(ROOT, self._answer_root),
            Route(f"{ROOT}/logout", self._log_out, methods=["POST"]),
            Route(f"{ROOT}/do/{{operation}}", self._do, methods=["POST"]),
        ]
        for page in self._pages:
            path = self._desk.operations[page.shows].path
            routes.append(Route(ROOT + path, self._shower_of(page)))
            if page.live_seconds is not None:
                routes.append(Route(_LIVE + path, self._streamer_of(page, page.live_seconds)))
        return routes

    def _handlers(self) -> dict[Any, Any]:
        async def refuse(request: Request, error: Exception) -> Response:
            refusal = refusal_of(error) if isinstance(error, RecadoError) else _UNKNOWN
            return self._refused(refusal, request.scope["visit"])

        return {RecadoError: refuse, 404: refuse, 405: refuse}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""

        async def send_safely(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items()]
            await send(message)

        request = Request(scope, receive)
        visit: Visit | None = None
        try:
            path: str = scope["path"]
            if request.method == "POST":
                _check_origin(request)
            if path.startswith(_STATIC):
                response = self._files.answer(path.removeprefix(_STATIC))
            elif path == LOGIN:
                response = await self._answer_login(request)
            elif self._oidc is not None and (path == PLACE or path.startswith(f"{PLACE}/")):
                response = await self._oidc.answer(request)
            else:
                visit = await self._entry.find_visit(cookie_of(request, SESSION_COOKIE))
                if visit is None:
                    response = _to_login(request)
                else:
                    scope["visit"] = visit
                    await self._inside(scope, receive, send_safely)
                    return
        except RecadoError as error:
            response = self._refused(refusal_of(error), visit)
        await response(scope, receive, send_safely)

    def _refused(self, refusal: RequestRefused, visit: Visit | None) -> Response:
        text = self._views.plain("refused", visit, title="Not done", reason=str(refusal), status=refusal.status)
        return html_answer(text, refusal.status)

    # A stranger

    async def _answer_login(self, request: Request) -> Response:
        if request.method == "POST":
            return await self._log_in(request)
        return self._login_page(own_path(first_values(_fields_of(request)).get("next", "")))

    async def _log_in(self, request: Request) -> Response:
        form = first_values(await _read_form(request, MAX_LOGIN_BYTES))
        back = own_path(form.get("next", ""))
        try:
            value, _ = await self._entry.log_in(form.get("name", ""), form.get("password", ""), address_of(request))
        except RecadoError as error:
            refusal = refusal_of(error)
            return self._login_page(back, str(refusal), refusal.status)
        # An earlier session is over: the new one has an id that nobody knew.
        await self._entry.leave(cookie_of(request, SESSION_COOKIE))
        response = RedirectResponse(back, 303)
        set_cookie(response, request, SESSION_COOKIE, value, ROOT)
        return response

    def _login_page(self, back: str, problem: str = "", status: int = 200) -> Response:
        provider = "" if self._oidc is None else self._oidc.login.label
        text = self._views.plain("login", None, title="Log in", back=back, problem=problem, provider=provider)
        return html_answer(text, status)

    # Somebody who is logged in

    async def _answer_root(self, request: Request) -> Response:
        visit: Visit = request.scope["visit"]
        menu = self._views.menu(visit)
        if not menu:
            raise RequestRefused("There is no page that your role may see.", "forbidden", 403)
        return RedirectResponse(menu[0]["url"], 303)

    async def _log_out(self, request: Request) -> Response:
        visit: Visit = request.scope["visit"]
        _check_csrf(request, visit, first_values(await _read_form(request, MAX_LOGIN_BYTES)))
        await self._entry.leave(visit.value)
        response = RedirectResponse(LOGIN, 303)
        response.delete_cookie(SESSION_COOKIE, path=ROOT)
        return response

    def _shower_of(self, page: ConsolePage) -> Any:
        async def show(request: Request) -> Response:
            visit: Visit = request.scope["visit"]
            state, answers = await self._answers(page, visit, request)
            if visit.session.notice:
                await self._entry.note(visit, "")
            return html_answer(self._views.page(page, visit, state, answers))

        return show

    def _streamer_of(self, page: ConsolePage, seconds: float) -> Any:
        # The parts beside the live one are not asked.
        live_page = msgspec.structs.replace(page, beside={})

        async def stream(request: Request) -> Response:
            visit: Visit = request.scope["visit"]

            async def lives() -> bool:
                return await self._entry.find_visit(visit.value, is_request=False) is not None

            async def look() -> tuple[PageState, dict[str, Any]]:
                return await self._answers(live_page, visit, request)

            def draw(values: tuple[PageState, dict[str, Any]]) -> str:
                return self._views.live_part(page, visit, *values)

            view = LiveView(_view_key(page, visit, request), seconds, look, draw, TOKEN_PLACE)
            events = self._streams.begin(visit.value, view, lives, visit.session.csrf)
            headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)

        return stream

    async def _answers(self, page: ConsolePage, visit: Visit, request: Request) -> tuple[PageState, dict[str, Any]]:
        """The state of a page, and the answers of its operations by their names in the template."""
        query = gathered(self._desk.operations[page.shows].parameters, _fields_of(request), drops_empty=True)
        return await self._answers_to(page, visit, query, names_in_path(request.path_params))

    async def _answers_to(
        self, page: ConsolePage, visit: Visit, query: Mapping[str, Any], names: Mapping[str, Any]
    ) -> tuple[PageState, dict[str, Any]]:
        operations = {"answer": self._desk.operations[page.shows]}
        more = {**page.also, **page.beside}
        also = {name: self._desk.operations.get(one) for name, one in more.items()}
        operations |= {name: operation for name, operation in also.items() if operation is not None}
        given = {**query, **names}
        caller = visit.operator.caller
        answers: dict[str, Any] = dict.fromkeys(more)
        for name, operation in operations.items():
            if name != "answer" and caller.role < operation.role:
                continue
            known = given if name == "answer" and not more else _known(operation, given)
            if name != "answer" and _has_cursor(operations["answer"]):
                # The place in the page's own list.
                known.pop("cursor", None)
            answers[name] = msgspec.to_builtins(await self._desk.perform(operation, caller, known))
        path = page_path(operations["answer"], names)
        return self._views.state(visit, path, query, names.get("site")), answers

    async def _do(self, request: Request) -> Response:
        """Performs the action that a form asks for."""
        visit: Visit = request.scope["visit"]
        pairs = await _read_form(request, MAX_FORM_BYTES)
        form = dict(reversed(pairs))
        _check_csrf(request, visit, form)
        operation = self._desk.operations.get(request.path_params["operation"])
        if operation is None or not operation.is_action:
            raise RequestRefused("There is no such action.", "unknown_path", 404)
        caller = visit.operator.caller
        check_role(operation, caller)
        if operation.hurts and not visit.session.is_confirmed:
            if _PASSWORD not in form:
                fields = [pair for pair in pairs if pair[0] != _PASSWORD]
                back = own_path(form.get("_back", ""))
                text = self._views.plain(
                    "confirm", visit, title="Your password", action=operation, fields=fields, back=back
                )
                return html_answer(text)
            visit = await self._entry.confirm(visit, form[_PASSWORD], address_of(request))
        own = [pair for pair in pairs if pair[0] not in _OWN_FIELDS]
        given = gathered(operation.parameters, own, drops_empty=True, takes_empty=operation.takes_empty)
        kept = next((page for page in self._pages if page.keeps == operation.name), None)
        if kept is not None:
            return await self._perform_in(kept, operation, visit, given)
        answer = msgspec.to_builtins(await self._desk.perform(operation, caller, given))
        back = own_path(form.get("_back", ""))
        if operation.tells:
            return html_answer(
                self._views.plain("done", visit, title="Done", action=operation, answer=answer, back=back)
            )
        await self._entry.note(visit, f"Done: {operation.summary}.")
        return RedirectResponse(back, 303)

    async def _perform_in(
        self, page: ConsolePage, operation: Operation, visit: Visit, given: Mapping[str, Any]
    ) -> Response:
        """Performs an action, and shows its page again, with what was typed and with the answer or the refusal."""
        status = 200
        try:
            told = msgspec.to_builtins(await self._desk.perform(operation, visit.operator.caller, given))
        except RecadoError as error:
            refusal = refusal_of(error)
            told, status = {"ok": False, "error": str(refusal)}, refusal.status
        in_path = self._desk.operations[page.shows].path_names
        names = {name: value for name, value in given.items() if name in in_path}
        typed = {name: value for name, value in given.items() if name not in in_path}
        # Raises for a site that the operator must not know of.
        state, answers = await self._answers_to(page, visit, {}, names)
        state = msgspec.structs.replace(state, query=typed)
        return html_answer(self._views.page(page, visit, state, {**answers, "told": told}), status)


def _view_key(page: ConsolePage, visit: Visit, request: Request) -> tuple[object, ...]:
    """Equal for streams that show the same."""
    caller = visit.operator.caller
    sites = None if caller.sites is None else tuple(sorted(caller.sites))
    viewer = (caller.role, sites, None if page.is_shared else caller.name)
    return (request.scope["path"], _query_of(request), *viewer)


def _has_cursor(operation: Operation) -> bool:
    return "cursor" in operation.parameters.__struct_fields__


def _known(operation: Operation, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given values that an operation has parameters for."""
    names = {*operation.path_names, *(field.encode_name for field in msgspec.structs.fields(operation.parameters))}
    return {name: value for name, value in given.items() if name in names}


def _to_login(request: Request) -> Response:
    """Sends a browser to the login, and afterwards back to the page that it asked for."""
    if request.headers.get("hx-request"):
        return Response("Log in first.", 401, headers={"HX-Redirect": LOGIN}, media_type="text/plain")
    if request.method != "GET" or "text/html" not in request.headers.get("accept", "text/html"):
        return Response("Log in first.", 401, media_type="text/plain")
    query = _query_of(request)
    target = request.scope["path"] + ("?" + query if query else "")
    return RedirectResponse(with_query(LOGIN, {"next": target}), 303)


def _fields_of(request: Request) -> list[tuple[str, str]]:
    """The parameters of the query, and one more than there may be."""
    return fields_in(dict(request.scope), MAX_PARAMETERS + 1)


def _query_of(request: Request) -> str:
    """The query as it came. The library's URL of a request has no query for a stranger's `Host: [`: it raises."""
    query: bytes = request.scope["query_string"]
    return query.decode("latin-1")


def _check_origin(request: Request) -> None:
    """Refuses a form of another origin. Browsers send the header with every POST."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise RequestRefused("This form belongs to another page.", "wrong_origin", 403)


def _check_csrf(request: Request, visit: Visit, form: Mapping[str, str]) -> None:
    given = form.get("_csrf") or request.headers.get("x-csrf-token", "")
    if not hmac.compare_digest(given.encode("utf-8", "replace"), visit.session.csrf.encode()):
        raise RequestRefused("This form has expired: load its page again.", "wrong_csrf", 403)


async def _read_form(request: Request, most: int) -> list[tuple[str, str]]:
    headers: dict[bytes, bytes] = dict(request.scope["headers"])
    body = await read_body(headers, request.receive, most)
    try:
        return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        raise RequestRefused("Body: expected a form with fewer fields.") from None
