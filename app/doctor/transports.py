"""Polling and WebSocket: whether packets come through, and how long a connection may be silent."""

import asyncio
from collections.abc import Awaitable, Callable

from app.canary.wire import OwnPort, Wire, WireError
from app.doctor.advice import lines_for
from app.doctor.engine_guest import WEBSOCKET, Greeting, greeting_in, refusal_code, visiting
from app.doctor.finding import FAULT, OK, SKIPPED, Finding, shown
from app.doctor.http_wire import ProbeError
from app.doctor.target import ProbeTarget
from app.doctor.way_in import reason_of

#: How much later than announced a ping may come.
_LATE_SECONDS = 20.0
_PING = "2"
_NOOP = b"6"
_EARLY_POLLS = 5
_BETWEEN_PACKETS = b"\x1e"
_NO_SITE = "~doctor"


async def look_at_polling(target: ProbeTarget) -> Finding:
    """Whether a session's requests are answered each by itself, as text."""
    async with asyncio.timeout(3 * target.answer_seconds), visiting(target) as first, visiting(target) as second:
        if first.greeting.sid == second.greeting.sid:
            return Finding("polling", FAULT, "two sessions got one answer: a cache keeps answers", lines_for("cache"))
        kind = first.opening.header("content-type")
        if not kind.lower().startswith("text/plain"):
            text = (
                f"the answers come as {shown(kind) or 'no type'} in place of text/plain: old clients do not read them"
            )
            return Finding("polling", FAULT, text, lines_for("type"))
        page = await first.post(f"40/{_NO_SITE},")
        if refusal_code(page) == 1:
            return Finding("polling", SKIPPED, "the session is known at one node only, see nodes")
        if page.status == 413 or page.body != b"ok":
            return Finding("polling", FAULT, f"a POST of a client is answered {page.status}", lines_for("no node"))
        page = await first.poll()
        if refusal_code(page) == 1:
            return Finding("polling", SKIPPED, "the session is known at one node only, see nodes")
        if page.status != 200 or not page.body.startswith(b"44"):
            return Finding("polling", FAULT, f"a poll is answered {page.status}", lines_for("no node"))
    return Finding("polling", OK, "requests and their answers come through")


async def look_at_websocket(target: ProbeTarget) -> Finding:
    """Whether an upgrade comes through, and the first packet behind it."""
    try:
        async with asyncio.timeout(target.answer_seconds):
            wire, _ = await _opened(target)
            wire.close()
    except (WireError, OSError, TimeoutError) as error:
        text = str(error) if isinstance(error, WireError) else reason_of(error)
        text = f"no WebSocket: {shown(text)}; a proxy drops the upgrade, and all clients go on polling"
        return Finding("websocket", FAULT, text, lines_for("upgrade"))
    return Finding("websocket", OK, "the upgrade comes through")


async def look_at_silent_websocket(target: ProbeTarget, greeting: Greeting, most_seconds: float) -> Finding:
    """Whether a WebSocket may be silent until its ping."""

    async def wait() -> str:
        try:
            wire, _ = await _opened(target)
        except WireError:
            return "skip: there is no WebSocket"
        try:
            while (text := await wire.read_text()) != _PING:
                if text.startswith("1"):
                    return "the server ended the session"
        except WireError:
            return "cut"
        finally:
            wire.close()
        return ""

    return await _silent("silent websocket", "a WebSocket", greeting, most_seconds, wait)


async def look_at_silent_poll(
    target: ProbeTarget, greeting: Greeting, most_seconds: float, *, has_good_nodes: bool
) -> Finding:
    """Whether a poll may wait until the ping. `has_good_nodes`: each node serves all sessions."""

    async def wait() -> str:
        try:
            async with visiting(target) as guest:
                for _ in range(_EARLY_POLLS):
                    # A node that drains has a poll answered early, with a packet that means nothing.
                    page = await guest.poll()
                    if page.body != _NOOP:
                        break
        except ProbeError:
            return "cut"
        if refusal_code(page) == 1 and not has_good_nodes:
            return "skip: the session is known at one node only, see nodes"
        if page.status != 200:
            return f"cut with {page.status}"
        # A proxy that gives the poll to a second node after its time-out has the session ended.
        return "" if _PING.encode() in page.body.split(_BETWEEN_PACKETS) else "ended"

    return await _silent("silent poll", "a poll", greeting, most_seconds, wait)


async def _silent(
    check: str, thing: str, greeting: Greeting, most_seconds: float, wait: Callable[[], Awaitable[str]]
) -> Finding:
    interval = greeting.ping_interval / 1000
    if not 0 < interval <= most_seconds:
        text = f"not looked at: pings come every {interval:g} s; wait for one with --wait {interval + 5:.0f}"
        return Finding(check, SKIPPED, text)
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(interval + _LATE_SECONDS):
            outcome = await wait()
    except TimeoutError:
        return Finding(
            check, FAULT, f"{thing} got no ping within {interval + _LATE_SECONDS:g} s", lines_for("buffering")
        )
    except OSError as error:
        outcome = f"cut ({reason_of(error)})"
    seconds = loop.time() - began
    if not outcome:
        return Finding(check, OK, f"{thing} may be silent until its ping, {interval:g} s")
    if outcome.startswith("skip: "):
        return Finding(check, SKIPPED, outcome.removeprefix("skip: "))
    text = f"{thing} was {outcome} after {seconds:.0f} s of silence; pings come every {interval:g} s"
    return Finding(check, FAULT, text, lines_for("silence"))


async def _opened(target: ProbeTarget) -> tuple[Wire, Greeting]:
    """A WebSocket that has greeted. Raises WireError, OSError."""
    wire = await Wire.open(OwnPort(target.host, target.port, target.tls))
    try:
        await wire.upgrade(target.prefix + WEBSOCKET)
        greeting = greeting_in((await wire.read_text()).encode())
        if greeting is None:
            raise WireError("the first packet is none of Engine.IO")
    except BaseException:
        wire.close()
        raise
    return wire, greeting
