"""The pages of a login at a provider: to it, back from it, and in.

A browser that comes from another site brings no cookie of ours, because they are strict. So the way back ends on a page
that leads on by itself: the request behind it comes from our own site.
"""

from collections.abc import Callable
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.console.entry import Entry, Visit
from app.console.failures import refusal_of
from app.console.identities import identity_of
from app.console.oidc import (
    CALLBACK,
    FLOW_SECONDS,
    MAX_CODE,
    Flow,
    OidcLogin,
    is_issuer,
    proven_ms,
    read_flow,
    write_flow,
)
from app.console.parameters import MAX_PARAMETERS
from app.console.session_cookie import ROOT, SESSION_COOKIE, address_of, cookie_of, html_answer, own_path, set_cookie
from app.errors import RecadoError, RequestRefused
from app.protocols.http_request import fields_in, first_values

PLACE = f"{ROOT}/oidc"
_FINISH = f"{PLACE}/finish"
_COOKIE = "recado_console_oidc"
#: The characters of a provider's word for its refusal.
_WORD_CHARACTERS = 100


class OidcPages:
    """Answers every path below `/console/oidc`. Lives as long as the node."""

    def __init__(self, login: OidcLogin, entry: Entry, write_page: Callable[..., str]) -> None:
        """`write_page` is `Views.plain`."""
        self.login = login
        self._entry = entry
        self._write_page = write_page

    async def answer(self, request: Request) -> Response:
        """Answers a request, of a stranger or of an operator. Raises RequestRefused, StoreError, JournalUnavailable."""
        path = request.scope["path"]
        if request.method != "GET" or path not in (PLACE, CALLBACK, _FINISH):
            raise RequestRefused("There is no such page.", "unknown_path", 404)
        if path == CALLBACK:
            return self._lead_on(request)
        visit = await self._entry.find_visit(cookie_of(request, SESSION_COOKIE))
        try:
            return await (self._begin if path == PLACE else self._finish)(request, visit)
        except RecadoError as error:
            if visit is not None:
                raise
            refusal = refusal_of(error)
            return self._to_login(str(refusal), refusal.status)

    async def _begin(self, request: Request, visit: Visit | None) -> Response:
        query = _query_of(request)
        is_again = "again" in query
        if is_again and visit is None:
            raise RequestRefused("Log in first.", "unauthorized", 401)
        url, flow = await self.login.begin(own_path(query.get("next", "")), is_again=is_again)
        response = RedirectResponse(url, 303, {"Cache-Control": "no-store"})
        set_cookie(response, request, _COOKIE, write_flow(flow), PLACE, FLOW_SECONDS)
        return response

    def _lead_on(self, request: Request) -> Response:
        """The way back from the provider."""
        query = _query_of(request)
        if error := query.get("error"):
            word = error[:_WORD_CHARACTERS] if error.isprintable() else "an error"
            return self._to_login(f"The provider has not let you in: {word}.", 403)
        given = {name: query[name] for name in ("code", "state", "iss") if query.get(name)}
        if len(urlencode(given)) > 2 * MAX_CODE:
            raise RequestRefused("The provider's answer is too long.", "too_long", 400)
        next_url = f"{_FINISH}?{urlencode(given)}"
        return html_answer(self._write_page("oidc_return", None, title="Logging in", next_url=next_url))

    async def _finish(self, request: Request, visit: Visit | None) -> Response:
        query = _query_of(request)
        flow = read_flow(cookie_of(request, _COOKIE), query.get("state", ""))
        code = query.get("code", "")
        if not code or not is_issuer(self.login.settings, query.get("iss")):
            raise RequestRefused("The provider's answer is not usable: begin again.", "bad_answer", 400)
        async with self._entry.counted(flow.state, address_of(request)):
            claims = await self.login.finish(flow, code)
        response = RedirectResponse(flow.back, 303, {"Cache-Control": "no-store"})
        response.delete_cookie(_COOKIE, path=PLACE)
        identity = identity_of(self.login.settings, claims)
        if flow.is_again:
            await self._confirm(visit, identity.subject, flow)
            return response
        value = await self._entry.log_in_as(identity, proven_ms(claims), address_of(request))
        await self._entry.leave(cookie_of(request, SESSION_COOKIE))
        set_cookie(response, request, SESSION_COOKIE, value, ROOT)
        return response

    async def _confirm(self, visit: Visit | None, subject: str, flow: Flow) -> None:
        if visit is None or visit.operator.subject != subject:
            raise RequestRefused("You have logged in as somebody else than here.", "other_person", 403)
        visit = await self._entry.confirm_proven(visit)
        await self._entry.note(
            visit, "Thank you. For five minutes you are not asked again: begin your change once more."
        )

    def _to_login(self, problem: str, status: int) -> Response:
        words = {"back": ROOT, "problem": problem, "provider": self.login.label}
        text = self._write_page("login", None, title="Log in", **words)
        return html_answer(text, status)


def _query_of(request: Request) -> dict[str, str]:
    return first_values(fields_in(dict(request.scope), MAX_PARAMETERS))
