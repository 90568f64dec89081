"""The scenario of the console: what its viewers cost a server that has many connections and delivers steadily."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from bench.contenders import ACKNOWLEDGED_SITE, Running, credentials_file
from bench.operator import Credentials, OperatorClient, Viewers
from bench.stage import Sample, Stage, settle

_OF_SITE = f"/sites/{ACKNOWLEDGED_SITE}"
#: The pages that viewers have open.
LIVE_PAGES = ("/overview", f"{_OF_SITE}/connections", f"{_OF_SITE}/messages", "/log", "/nodes")
_ENDED = 300
NOBODY, FIVE, ALL = "console, nobody looks", "console, five viewers", "console, five viewers of all five pages"


def console(stage: Stage) -> None:
    """Deliver steadily to some of many devices, while nobody looks at the console, while five look at a live page each,
    and while each of the five has all five pages open; beside it the same on a server whose console is off."""
    if "recado" not in stage.contenders:
        return
    scale = stage.scale
    with stage.started(["recado-no-console", "recado-console"]) as (without, running):
        for one in (without, running):
            sizes = [scale.console_fan_out]
            boarding = {"first": 0, "count": scale.console_devices, "concurrency": scale.concurrency}
            one.generator.call(
                "connect", target=one.target(ACKNOWLEDGED_SITE), boarding=boarding | {"room_sizes": sizes}
            )
            settle(one)
        viewers = [_client(stage, running) for _ in range(len(LIVE_PAGES))]
        pairs = list(zip(viewers, LIVE_PAGES, strict=True))
        every = [(viewer, page) for viewer in viewers for page in LIVE_PAGES]
        for turn in range(scale.growth_rounds + 1):
            stage.keep(turn, NOBODY, without, _measure(stage, without, []))
            for measurement, open_pages in ((NOBODY, []), (FIVE, pairs), (ALL, every)):
                stage.keep(turn, measurement, running, _measure(stage, running, open_pages))
        for viewer in viewers:
            viewer.close()


def _client(stage: Stage, running: Running) -> OperatorClient:
    credentials = Credentials.read(credentials_file(stage.place, running.name))
    return OperatorClient(running.send_address, credentials)


def _measure(stage: Stage, running: Running, open_pages: Sequence[tuple[OperatorClient, str]]) -> Sample:
    scale = stage.scale
    plan = {"messages": scale.console_messages, "publishers": 1, "gap_seconds": scale.console_gap_seconds}
    with _viewing(open_pages) as viewers:
        before, began = running.usage(), time.monotonic()
        answer = running.generator.call(
            "fan_out",
            endpoint=running.endpoint(ACKNOWLEDGED_SITE),
            room=f"first_{scale.console_fan_out}",
            receivers=scale.console_fan_out,
            plan=plan,
        )
        seconds, spent = time.monotonic() - began, running.usage().since(before)
    return {
        "core_percent": 100 * spent.server_seconds / seconds,
        "deliveries_per_second": scale.console_fan_out * scale.console_messages / answer["seconds"],
        "events": float(viewers.events),
    }


@contextlib.contextmanager
def _viewing(open_pages: Sequence[tuple[OperatorClient, str]]) -> Iterator[Viewers]:
    """The pages held open, each with its first event."""
    viewers = Viewers([client.open_live(page) for client, page in open_pages])
    try:
        deadline = time.monotonic() + 10
        while viewers.events < len(open_pages) and time.monotonic() < deadline:
            time.sleep(0.05)
        viewers.events = 0
        yield viewers
    finally:
        viewers.close()
