"""The scenario of bad networks: messages at a steady rate, while connections of devices are cut and come back."""

from __future__ import annotations

import dataclasses
from typing import Any

from bench.contenders import ACKNOWLEDGED_SITE, PLAIN_SITE, Running
from bench.operations import board, connect_devices, disconnect
from bench.stage import Sample, Stage, settle

# A cut of which the server hears by a reset, and one of which it does not hear.
RESET, SILENT = "jitter, cut with a reset", "jitter, cut in silence"
# Recado on the site that stores; Node on the plain one, where Socket.IO's recovery works: it serves no event with a
# callback.
_SITES = {"recado": ACKNOWLEDGED_SITE, "node-recovery": PLAIN_SITE, "node": PLAIN_SITE}


def jitter(stage: Stage) -> None:
    """Send to all devices while the connection of each is cut from time to time: what arrives, how often, and when."""
    names = [name for name in _SITES if name.partition("-")[0] in stage.contenders]
    for measurement in (RESET, SILENT):
        # Fresh servers: no device of the other form waits.
        with stage.started(names) as runnings:
            _warm_up(stage, runnings)
            for running, sample in zip(runnings, _play(stage, runnings, is_silent=measurement == SILENT), strict=True):
                stage.record(measurement, running, sample)


def _warm_up(stage: Stage, runnings: list[Running]) -> None:
    devices = stage.scale.jitter.devices
    plan = {"messages": stage.scale.fan_out_messages, "publishers": 1, "gap_seconds": 0.0}
    for running in runnings:
        site = _SITES[running.name]
        board(stage, running, devices, site)
        running.generator.call("fan_out", endpoint=running.endpoint(site), room="all", receivers=devices, plan=plan)
        settle(running)
        disconnect(running)


def _play(stage: Stage, runnings: list[Running], *, is_silent: bool) -> list[Sample]:
    """All servers at the same time: they have next to nothing to do. Their messages do not come at the same moment."""
    scale = stage.scale.jitter
    plan = dataclasses.asdict(scale) | {"is_silent": is_silent}
    devices = plan.pop("devices")
    for running in runnings:
        connect_devices(stage, running, devices, _SITES[running.name], "board_roamers")
        settle(running)
    before = [running.usage() for running in runnings]
    for index, running in enumerate(runnings):
        start = {"start_after_seconds": index * scale.gap_seconds / len(runnings)}
        running.generator.begin("roam", endpoint=running.endpoint(_SITES[running.name]), jitter=plan | start)
    answers = [running.generator.finish("roam") for running in runnings]
    samples = []
    for running, answer, usage in zip(runnings, answers, before, strict=True):
        spent = running.usage().since(usage)
        samples.append(_sample(answer, 1e6 * spent.server_seconds))
    return samples


def _sample(answer: dict[str, Any], server_us: float) -> Sample:
    expected = answer["expected"]
    return {
        "lost": answer["lost"],
        "delivered_percent": 100 * (1 - answer["lost"] / expected),
        "once_percent": 100 * answer["once"] / expected,
        "repeats": answer["repeats"],
        "out_of_order": answer["out_of_order"],
        "p50_ms": answer["p50_ms"],
        "p99_ms": answer["p99_ms"],
        "recovered_percent": 100 * answer["recoveries"] / max(1, answer["reconnects"]),
        "back_p99_ms": answer["back_p99_ms"],
        "server_us": server_us / expected,
    }
