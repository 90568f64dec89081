"""The scenario of TLS: connects and fan-outs of Recado and of Node, each of which ends TLS itself."""

from __future__ import annotations

import functools

from bench.contenders import ACKNOWLEDGED_SITE, PLAIN_SITE
from bench.operations import board, disconnect, measure_connect, measure_fan_out
from bench.stage import Stage

_PLAYERS = ("recado", "node")
_FAN_OUTS = (("fan-out acked, TLS", ACKNOWLEDGED_SITE), ("fan-out plain, TLS", PLAIN_SITE))


def tls(stage: Stage) -> None:
    """Connect devices, and send to a room of them, stored and plain, over TLS; each connect is a whole handshake."""
    scale = stage.scale
    with stage.started([f"{name}-tls" for name in _PLAYERS if name in stage.contenders]) as runnings:
        stage.interleave("connect, TLS", runnings, functools.partial(measure_connect, stage))
        for measurement, site in _FAN_OUTS:
            for running in runnings:
                board(stage, running, scale.devices, site)
            stage.interleave(
                measurement,
                runnings,
                lambda running, site=site: measure_fan_out(  # type: ignore[misc]
                    running, site, "all", scale.devices, scale.fan_out_messages
                ),
            )
            for running in runnings:
                disconnect(running)
