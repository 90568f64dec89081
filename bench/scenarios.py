"""The scenarios of the benchmark, each a function of the stage. The targets of the figures stand in targets.py."""

from __future__ import annotations

import functools
import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from bench.console import console
from bench.contenders import ACKNOWLEDGED_SITE, PLAIN_SITE, Running
from bench.flood import FloodProcess
from bench.jitter import jitter
from bench.large import large
from bench.operations import board, connect_devices, disconnect, measure_connect, measure_fan_out, measure_unicast
from bench.stage import Sample, Stage, measured, settle
from bench.tls import tls
from bench.topics import topics, topics_match
from bench.workers import workers

_SLOW_RECEIVE_BUFFER_BYTES = 4096
_LATENCY_GAP_SECONDS = 0.02
_CHANNEL = "news"
_GROWTH_TARGETS = 10
_MAX_MESSAGES_PER_POINT = 300


def connect(stage: Stage) -> None:
    """Connect devices over WebSocket, with a request to authUrl for each; the disconnects are not measured."""
    with stage.running("connect") as runnings:
        stage.interleave("connect", runnings, functools.partial(measure_connect, stage))


def fan_out_acked(stage: Stage) -> None:
    """Send to a room of many devices, one message at a time; each is stored for each device, which acknowledges it."""
    _fan_out(stage, "fan-out acked", ACKNOWLEDGED_SITE)


def fan_out_plain(stage: Stage) -> None:
    """Send to a room of many sockets of a site that stores nothing."""
    _fan_out(stage, "fan-out plain", PLAIN_SITE)


def journal(stage: Stage) -> None:
    """Connect, send to all and to single users, with the journal off and with it on (`recado-journal`)."""
    scale = stage.scale

    def fan_out(running: Running) -> Sample:
        return measure_fan_out(running, ACKNOWLEDGED_SITE, "all", scale.devices, scale.fan_out_messages)

    def unicast(running: Running) -> Sample:
        return measure_unicast(stage, running, scale.unicast_messages, users=scale.devices)

    with stage.running("journal", ["recado-journal"]) as runnings:
        stage.interleave("journal, connect", runnings, functools.partial(measure_connect, stage))
        for running in runnings:
            board(stage, running, scale.devices)
        stage.interleave("journal", runnings, fan_out)
        stage.interleave("journal, unicast", runnings, unicast)


def unicast(stage: Stage) -> None:
    """Send each message to one user, from many publishers at once; stored and acknowledged."""
    scale = stage.scale

    def measure(running: Running) -> Sample:
        return measure_unicast(stage, running, scale.unicast_messages, users=scale.devices)

    with stage.running("unicast") as runnings:
        for running in runnings:
            board(stage, running, scale.devices)
        stage.interleave("unicast", runnings, measure)


def replay(stage: Stage) -> None:
    """Reconnect devices for which messages wait; each gets them as `_batch` and acknowledges it."""
    scale = stage.scale
    devices, messages = scale.replay_devices, scale.replay_messages

    def measure(running: Running) -> Sample:
        running.generator.call("queue", endpoint=running.endpoint(ACKNOWLEDGED_SITE), users=devices, messages=messages)
        settle(running)
        sample = measured(
            running, devices * messages, lambda: connect_devices(stage, running, devices, batch_messages=messages)
        )
        disconnect(running)
        return sample

    with stage.running("replay") as runnings:
        for running in runnings:
            board(stage, running, devices)  # makes the devices known
            disconnect(running)
        stage.interleave("replay", runnings, measure)


def latency(stage: Stage) -> None:
    """Send single messages to a room of many devices with pauses; the delay is from POST to each receipt."""
    scale = stage.scale

    def measure(running: Running) -> Sample:
        plan = {"messages": scale.latency_messages, "publishers": 1, "gap_seconds": _LATENCY_GAP_SECONDS}
        answer = _send_to_all(running, ACKNOWLEDGED_SITE, scale.devices, plan)
        settle(running)
        return {"p50_ms": answer["p50_ms"], "p99_ms": answer["p99_ms"], "last_p50_ms": answer["last_p50_ms"]}

    with stage.running("latency") as runnings:
        for running in runnings:
            board(stage, running, scale.devices)
        stage.interleave("latency", runnings, measure)


def idle(stage: Stage) -> None:
    """Hold many devices that do nothing but answer pings: memory of each, CPU of all. Fresh servers in each round."""
    scale = stage.scale
    for _ in range(scale.idle_rounds):
        with stage.running("idle") as runnings:
            memories = [_memory_per_device(stage, running) for running in runnings]
            before = [running.usage() for running in runnings]
            time.sleep(scale.idle_seconds)
            for running, memory, usage in zip(runnings, memories, before, strict=True):
                spent = running.usage().since(usage)
                share = spent.server_seconds / scale.idle_seconds / (scale.idle_devices / 1000)
                stage.record("idle", running, {**memory, "core_percent_per_1000": 100 * share})


def slow_readers(stage: Stage) -> None:
    """Let some sockets stop reading while large messages flow; measures the others' delays, and the memory."""
    readers = stage.scale.slow_devices - stage.scale.slow_readers
    with stage.running("slow readers") as runnings:
        for running in runnings:
            board(stage, running, readers, PLAIN_SITE)
            _send_large(stage, running)  # warms up
            without = _send_large(stage, running)
            sample = {"p50_without_ms": without["p50_ms"], "p99_without_ms": without["p99_ms"]}
            stage.record("slow readers", running, {**_measure_slow_readers(stage, running), **sample})


def growth(stage: Stage) -> None:
    """Measure the same operation while the number of connections, and the size of the fan-out, grows."""
    scale = stage.scale
    with stage.running("growth") as runnings:
        connected = 0
        for connections in scale.growth_connections:
            for running in runnings:
                board(stage, running, connections - connected, first=connected, room_sizes=list(scale.growth_fan_outs))
            connected = connections
            _measure_connections(stage, runnings, connections)
            if connections == scale.growth_fan_outs[-1]:
                _measure_fan_outs(stage, runnings)
        # The verdict compares the ends of the curve: the few are measured once more, beside the many, under the same
        # conditions of the machine.
        for running in runnings:
            disconnect(running)
            board(stage, running, scale.growth_connections[0])
        _measure_connections(stage, runnings, scale.growth_connections[0])


def fairness(stage: Stage) -> None:
    """Send to a room of many devices, while another site sends ten times what it may, and while it does not."""
    scale = stage.scale

    def calm(running: Running) -> Sample:
        return measure_fan_out(running, ACKNOWLEDGED_SITE, "all", scale.devices, scale.fairness_messages)

    def fan_out(running: Running, flood: FloodProcess) -> dict[str, Any]:
        plan = {"messages": scale.fairness_messages, "publishers": 1, "gap_seconds": 0.0}
        answer = _send_to_all(running, ACKNOWLEDGED_SITE, scale.devices, plan)
        # The flood ends with the fan-out: it would keep the server from becoming quiet.
        flood.end()
        return answer

    def flooded(running: Running) -> Sample:
        flood = FloodProcess(stage.place, running)
        try:
            return measured(running, scale.devices * scale.fairness_messages, lambda: fan_out(running, flood))
        finally:
            flood.stop()

    with stage.running("fairness") as runnings:
        for running in runnings:
            board(stage, running, scale.devices)
        stage.play(runnings, {"fan-out, others calm": calm, "fan-out, another floods": flooded}, scale.rounds)


def channels(stage: Stage) -> None:
    """Push into a channel of many plain WebSockets, in turns with the fan-out of Socket.IO to as many on the server."""
    scale = stage.scale
    with stage.running("channels") as runnings:
        tokens = {running.name: _create_channel(running) for running in runnings}

        def push(running: Running) -> Sample:
            token = {"channel_token": tokens[running.name]}
            return measure_fan_out(running, PLAIN_SITE, _CHANNEL, scale.devices, scale.fan_out_messages, token)

        def send(running: Running) -> Sample:
            return measure_fan_out(running, PLAIN_SITE, "all", scale.devices, scale.fan_out_messages)

        for running in runnings:
            board(stage, running, scale.devices, PLAIN_SITE)
            target = running.target(PLAIN_SITE) | {"channel": _CHANNEL}
            settings = {"first": 0, "count": scale.devices, "concurrency": scale.concurrency, "room_sizes": []}
            running.generator.call("connect", target=target, boarding=settings)
            settle(running)
        stage.play(runnings, {"channel push": push, "fan-out beside channels": send}, scale.rounds)


SCENARIOS: dict[str, Callable[[Stage], None]] = {
    "connect": connect,
    "fan-out-acked": fan_out_acked,
    "fan-out-plain": fan_out_plain,
    "unicast": unicast,
    "replay": replay,
    "latency": latency,
    "idle": idle,
    "slow-readers": slow_readers,
    "journal": journal,
    "jitter": jitter,
    "tls": tls,
    "workers": workers,
    "fairness": fairness,
    "console": console,
    "growth": growth,
    "channels": channels,
    "topics": topics,
    "topics-match": topics_match,
    "large": large,
}


def _fan_out(stage: Stage, measurement: str, site: str) -> None:
    scale = stage.scale
    with stage.running(measurement) as runnings:
        for running in runnings:
            board(stage, running, scale.devices, site)
        stage.interleave(
            measurement,
            runnings,
            lambda running: measure_fan_out(running, site, "all", scale.devices, scale.fan_out_messages),
        )


def _send_large(stage: Stage, running: Running) -> dict[str, Any]:
    scale = stage.scale
    plan = {"messages": scale.slow_messages, "publishers": 1, "gap_seconds": 0.0}
    receivers = scale.slow_devices - scale.slow_readers
    return _send_to_all(running, PLAIN_SITE, receivers, plan, scale.slow_payload_bytes)


def _measure_slow_readers(stage: Stage, running: Running) -> Sample:
    count = stage.scale.slow_readers
    readers = stage.scale.slow_devices - count
    board(stage, running, count, PLAIN_SITE, first=readers, receive_buffer_bytes=_SLOW_RECEIVE_BUFFER_BYTES)
    running.generator.call("pause", count=count)
    running.forget_peak()
    memory, files = running.resident_kb(), running.open_files()
    answer = _send_large(stage, running)
    settle(running)
    return {
        "p50_ms": answer["p50_ms"],
        "p99_ms": answer["p99_ms"],
        "mb_per_slow_reader": (running.peak_kb() - memory) / 1024 / count,
        "closed": max(0, files - running.open_files()),
    }


def _measure_connections(stage: Stage, runnings: list[Running], connections: int) -> None:
    # Always to the same few devices: what may change the cost is only how many others are connected.
    scale = stage.scale

    def measure(running: Running) -> Sample:
        return measure_unicast(stage, running, scale.growth_unicasts, users=_GROWTH_TARGETS)

    stage.play(runnings, {f"unicast, {connections} connected": measure}, scale.growth_rounds)


def _measure_fan_outs(stage: Stage, runnings: list[Running]) -> None:
    def measure(size: int, running: Running) -> Sample:
        messages = max(1, min(_MAX_MESSAGES_PER_POINT, stage.scale.growth_deliveries // size))
        return measure_fan_out(running, ACKNOWLEDGED_SITE, f"first_{size}", size, messages)

    sizes = stage.scale.growth_fan_outs
    measures = {f"fan-out to {size}": functools.partial(measure, size) for size in sizes}
    stage.play(runnings, measures, stage.scale.growth_rounds)


def _create_channel(running: Running) -> str:
    host, port = running.send_address
    body = {"messageType": "SERVER_ACTION", "action": "CREATE_CHANNEL", "data": {"channel": _CHANNEL}}
    url = f"http://{host}:{port}/channels/{PLAIN_SITE}/channel/create"
    with urllib.request.urlopen(url, json.dumps(body).encode()) as answer:
        token: str = json.load(answer)["data"]["channelToken"]
        return token


def _send_to_all(
    running: Running, site: str, receivers: int, plan: dict[str, Any], payload_bytes: int = 100
) -> dict[str, Any]:
    endpoint = running.endpoint(site, payload_bytes)
    return running.generator.call("fan_out", endpoint=endpoint, room="all", receivers=receivers, plan=plan)


def _memory_per_device(stage: Stage, running: Running) -> Sample:
    scale = stage.scale
    # The first connections also load and compile code, which is not the cost of a device.
    board(stage, running, scale.concurrency * 2)
    disconnect(running)
    server, redis = running.resident_kb(), running.redis_resident_kb()
    board(stage, running, scale.idle_devices)
    settle(running)
    return {
        "kb_per_device": (running.resident_kb() - server) / scale.idle_devices,
        "redis_kb_per_device": (running.redis_resident_kb() - redis) / scale.idle_devices,
    }
