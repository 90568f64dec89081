"""The single operations that scenarios measure: connects, fan-outs and unicasts of one server. Knows no scenario."""

from __future__ import annotations

from typing import Any

from bench.contenders import ACKNOWLEDGED_SITE, Running
from bench.stage import Sample, Stage, measured, settle


def connect_devices(
    stage: Stage,
    running: Running,
    count: int,
    site: str = ACKNOWLEDGED_SITE,
    command: str = "connect",
    **boarding: Any,
) -> dict[str, Any]:
    """Connect devices, `concurrency` at a time, until each has its `_settings`; `command` is the generator's."""
    settings = {"first": 0, "count": count, "concurrency": stage.scale.concurrency, "room_sizes": [], **boarding}
    return running.generator.call(command, target=running.target(site), boarding=settings)


def board(stage: Stage, running: Running, count: int, site: str = ACKNOWLEDGED_SITE, **boarding: Any) -> None:
    """Connect outside a window. A device has its `_settings` before the server has stored that it is there."""
    connect_devices(stage, running, count, site, **boarding)
    settle(running)


def disconnect(running: Running) -> None:
    """Close all devices, outside a window."""
    running.generator.call("disconnect")
    settle(running)


def measure_connect(stage: Stage, running: Running) -> Sample:
    """Connect the scale's devices, and close them outside the window; the figures are those of a connect."""
    count = stage.scale.devices
    sample = measured(running, count, lambda: connect_devices(stage, running, count))
    disconnect(running)
    return sample


def measure_fan_out(
    running: Running, site: str, room: str, receivers: int, messages: int, endpoint: dict[str, str] | None = None
) -> Sample:
    """Send to one room, a message at a time; the figures are those of a delivery."""
    plan = {"messages": messages, "publishers": 1, "gap_seconds": 0.0}
    return measured(
        running,
        receivers * messages,
        lambda: running.generator.call(
            "fan_out", endpoint=running.endpoint(site) | (endpoint or {}), room=room, receivers=receivers, plan=plan
        ),
    )


def measure_unicast(stage: Stage, running: Running, messages: int, users: int) -> Sample:
    """Send each message to one of so many users, from many publishers; the figures are those of a message."""
    plan = {"messages": messages, "publishers": stage.scale.publishers, "gap_seconds": 0.0}
    endpoint = running.endpoint(ACKNOWLEDGED_SITE)
    return measured(
        running, messages, lambda: running.generator.call("unicast", endpoint=endpoint, users=users, plan=plan)
    )
