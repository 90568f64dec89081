"""The headers of answers and what a page may read of them, what is published, and the clock in front."""

import asyncio
from email.utils import parsedate_to_datetime
from time import time

import msgspec

from app.doctor.advice import lines_for, origin_line
from app.doctor.engine_guest import POLLING, EngineGuest, visiting
from app.doctor.finding import FAULT, OK, SKIPPED, WARNING, Finding, shown
from app.doctor.http_wire import ProbeAnswer, begun, fetch
from app.doctor.target import ProbeTarget

#: The difference at which nodes refuse each other, and tokens their time.
ACCEPTED_SKEW_SECONDS = 30
_STRANGER = "https://doctor.example"
_ALLOWED = "access-control-allow-origin"
_CONNECTED, _REFUSED = "40/", "44/"


async def look_at_origins(target: ProbeTarget, site: str | None, origin: str | None) -> Finding:
    """Whether a page of the origin may read answers, and join the site."""
    page_of = origin or _STRANGER
    headers = {"Origin": page_of}
    async with asyncio.timeout(3 * target.answer_seconds):
        asked = {**headers, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        preflight = await fetch(target, f"OPTIONS {POLLING}", asked)
        async with visiting(target, headers) as guest:
            if wrong := _wrong_headers(guest.opening, page_of) or _wrong_headers(preflight, page_of):
                return Finding("origins", FAULT, wrong, lines_for("cors"))
            if site is not None:
                return await _join(guest, site, page_of, headers, is_asked=origin is not None)
    return Finding("origins", OK, "pages may read the answers; name --site and --origin for one page")


def _wrong_headers(page: ProbeAnswer, origin: str) -> str:
    """The fault in the headers for pages; "" none."""
    values = page.values(_ALLOWED)
    if len(values) > 1 or any("," in value for value in values):
        return f"an answer has {max(2, len(values))} values of Access-Control-Allow-Origin: browsers refuse it"
    if values not in ([origin], ["*"]):
        has = f"it is {shown(values[0])}" if values else "there is none"
        return f"Access-Control-Allow-Origin is not that of the page: {has}; a proxy changes it"
    return ""


async def _join(guest: EngineGuest, site: str, origin: str, headers: dict[str, str], *, is_asked: bool) -> Finding:
    """Ask to join the site without a token: the server judges the origin first."""
    posted = await guest.post(f"40/{site},{{}}", headers)
    text = (await guest.poll(headers)).body.decode("utf-8", "replace") if posted.status == 200 else ""
    message = _message_in(text, site)
    if message == "Invalid namespace":
        return Finding("origins", FAULT, f"there is no site {shown(site)} at this address")
    if message == "Origin not allowed" and not is_asked:
        return Finding("origins", OK, f"site {shown(site)} takes only pages that it lists; try one with --origin")
    if message == "Origin not allowed":
        text = f"site {shown(site)} refuses pages of {shown(origin)}"
        return Finding("origins", FAULT, text, origin_line(shown(site), shown(origin)))
    if not text.startswith((_CONNECTED, _REFUSED)):
        return Finding("origins", SKIPPED, f"not looked at: site {shown(site)} did not answer a connect")
    return Finding("origins", OK, f"site {shown(site)} takes pages of {shown(origin)}")


def _message_in(text: str, site: str) -> str:
    """The message of a refused connect."""
    beginning = f"{_REFUSED}{site},"
    if not text.startswith(beginning):
        return ""
    try:
        held = msgspec.json.decode(text.removeprefix(beginning))
    except (msgspec.DecodeError, RecursionError):
        return ""
    return str(held.get("message", "")) if isinstance(held, dict) else shown(held)


async def look_at_metrics(target: ProbeTarget) -> Finding:
    """Whether everybody may read the figures."""
    async with asyncio.timeout(target.answer_seconds), begun(target, "GET /metrics/own") as exchange:
        page = await exchange.head()
        # A server with many sites has megabytes of them.
        start = await exchange.first_bytes() if page.status == 200 else b""
    if start.startswith(b"# HELP"):
        text = "everybody can read the names of the sites and their figures at /metrics"
        return Finding("published", WARNING, text, lines_for("published"))
    return Finding("published", OK, f"/metrics is not published ({page.status})")


async def look_at_clock(target: ProbeTarget) -> Finding:
    """Whether the clock in front of the nodes agrees with this machine's."""
    async with asyncio.timeout(target.answer_seconds):
        page = await fetch(target, "GET /healthz")
    try:
        apart = abs(parsedate_to_datetime(page.header("date")).timestamp() - time())
    except (ValueError, TypeError, OverflowError):
        return Finding("clock", SKIPPED, "not looked at: the answers have no Date")
    if apart > ACCEPTED_SKEW_SECONDS:
        text = (
            f"the clocks of the server in front and of this machine are {apart:.0f} s apart: tokens and signatures fail"
        )
        return Finding("clock", FAULT, text, lines_for("clock"))
    return Finding("clock", OK, "the clock in front agrees with this machine's")
