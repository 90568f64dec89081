"""The address: whether a Recado answers there, and if not, what does."""

import asyncio
import socket
import ssl

from app.doctor.advice import lines_for
from app.doctor.engine_guest import Greeting, open_session, refusal_code
from app.doctor.finding import FAULT, OK, Finding, LineToChange, shown
from app.doctor.http_wire import ProbeAnswer, ProbeError
from app.doctor.target import ProbeTarget

NAME = "address"
#: The code of Engine.IO with which a node that drains or is full refuses.
_BUSY = (429, 503)


async def look_at_address(target: ProbeTarget) -> tuple[Finding, Greeting | None]:
    """The finding, and the greeting when a Recado answers."""
    try:
        async with asyncio.timeout(2 * target.answer_seconds):
            greeting, page = await open_session(target)
            if greeting is not None and greeting.node:
                return Finding(NAME, OK, f"{target.url} leads to a Recado"), greeting
            if target.prefix and await _is_recado(target.root):
                return _wrong_prefix(target), None
    except (ProbeError, OSError, TimeoutError) as error:
        return Finding(NAME, FAULT, f"{target.url}: {reason_of(error)}", _change_of(error)), None
    return _stranger(target, greeting, page), None


def reason_of(error: Exception) -> str:
    """The reason for which there was no answer."""
    match error:
        case ProbeError():
            return str(error)
        case TimeoutError():
            return "no answer in time"
        case ssl.SSLCertVerificationError():
            return f"the certificate is not trusted: {shown(error.verify_message)}"
        case ssl.SSLError():
            return "the port does not speak TLS, or refused the handshake"
        case socket.gaierror():
            return "the name of the host leads to no address"
        case ConnectionRefusedError():
            return "nothing listens there"
        case _:
            return shown(getattr(error, "strerror", None) or type(error).__name__)


async def _is_recado(target: ProbeTarget) -> bool:
    greeting, _ = await open_session(target)
    return greeting is not None and bool(greeting.node)


def _change_of(error: Exception) -> tuple[LineToChange, ...]:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (LineToChange("nginx", "ssl_certificate fullchain.pem;   # the certificate and behind it its chain"),)
    return ()


def _wrong_prefix(target: ProbeTarget) -> Finding:
    text = f"a Recado answers at {target.root.url}, and not below {target.prefix}: the proxy passes the prefix on"
    return Finding(NAME, FAULT, text, lines_for("prefix"))


def _stranger(target: ProbeTarget, greeting: Greeting | None, page: ProbeAnswer) -> Finding:
    if greeting is not None:
        return Finding(NAME, FAULT, f"{target.url}: a Socket.IO server answers that is no Recado", lines_for("no node"))
    if 300 <= page.status < 400:
        return _redirect(target, page)
    if page.status in _BUSY and refusal_code(page) is not None:
        return Finding(
            NAME, FAULT, f"{target.url}: no session now ({page.status}): it drains, or has too many; try again"
        )
    if b"speaks HTTPS" in page.body:
        return Finding(
            NAME,
            FAULT,
            f"{target.url}: the port speaks TLS",
            (LineToChange("the page", "https:// in place of http://"),),
        )
    if page.status in (502, 503, 504):
        text = f"{target.url}: the proxy answers {page.status}: it reaches no node{_server_of(page)}"
        return Finding(NAME, FAULT, text, lines_for("no node"))
    text = f"{target.url}/socket.io/ is no Recado: it answers {page.status}{_server_of(page)}"
    return Finding(NAME, FAULT, text, lines_for("prefix"))


def _redirect(target: ProbeTarget, page: ProbeAnswer) -> Finding:
    # Without the query, which repeats the request's own.
    led_to = shown(page.header("location").partition("?")[0].removesuffix("/socket.io/"))
    text = f"{target.url} redirects ({page.status}) to {led_to}: WebSockets and /send do not follow it"
    return Finding(NAME, FAULT, text, (LineToChange("the page", f'io("{led_to}/<site>")'),))


def _server_of(page: ProbeAnswer) -> str:
    return f" (Server: {shown(page.header('server'))})" if page.header("server") else ""
