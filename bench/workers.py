"""The scenario of workers: one process of Recado, and four that share the port, on all cores of the machine."""

from __future__ import annotations

import functools

from bench.contenders import ACKNOWLEDGED_SITE, Running
from bench.operations import board, measure_connect, measure_fan_out, measure_unicast
from bench.stage import Sample, Stage


def workers(stage: Stage) -> None:
    """Connect, send to all and to single users, with one process and with four; the CPU of all processes counts."""
    scale = stage.scale

    def fan_out(running: Running) -> Sample:
        return measure_fan_out(running, ACKNOWLEDGED_SITE, "all", scale.devices, scale.fan_out_messages)

    def unicast(running: Running) -> Sample:
        return measure_unicast(stage, running, scale.unicast_messages, users=scale.devices)

    if "recado" not in stage.contenders:
        return
    with stage.started(["recado-1-worker", "recado-4-workers"]) as runnings:
        stage.interleave("connect, workers", runnings, functools.partial(measure_connect, stage))
        for running in runnings:
            board(stage, running, scale.devices)
        stage.interleave("fan-out acked, workers", runnings, fan_out)
        stage.interleave("unicast, workers", runnings, unicast)
