"""The scenarios of topics: an event to many streams beside Socket.IO's fan-out, and the cost of many subscriptions."""

from __future__ import annotations

from typing import Any

from bench.contenders import PLAIN_SITE, Running
from bench.stage import Sample, Stage, measured, settle

#: Streams that hear each of the measured events, whatever the number of other subscriptions.
_LISTENERS = 2


def topics(stage: Stage) -> None:
    """Emit to a topic of many streams, one event at a time; between the rounds the same over Socket.IO, plain site."""
    scale = stage.scale
    plan = {"messages": scale.fan_out_messages, "publishers": 1, "gap_seconds": 0.0}
    deliveries = scale.devices * scale.fan_out_messages

    def emit(running: Running) -> Sample:
        return measured(running, deliveries, lambda: _emit(running, ["all"], scale.devices, plan))

    def send(running: Running) -> Sample:
        endpoint = running.endpoint(PLAIN_SITE)
        call = running.generator.call
        return measured(
            running,
            deliveries,
            lambda: call("fan_out", endpoint=endpoint, room="all", receivers=scale.devices, plan=plan),
        )

    with stage.running("topics") as runnings:
        for running in runnings:
            boarding = {"first": 0, "count": scale.devices, "concurrency": scale.concurrency, "room_sizes": []}
            running.generator.call("connect", target=running.target(PLAIN_SITE), boarding=boarding)
            _open(running, [["all"]] * scale.devices)
        stage.play(runnings, {"topic event": emit, "fan-out beside topics": send}, scale.rounds)


def topics_match(stage: Stage) -> None:
    """Emit to topics of two streams each, while there are few other subscriptions and while there are very many."""
    scale = stage.scale
    with stage.running("topics-match") as runnings:
        for subscriptions in scale.topic_subscriptions:
            for running in runnings:
                running.generator.call("close_streams")
                _open(running, _spread(subscriptions))
            measures = {f"topic event, {subscriptions} subscriptions": lambda running: _measure_few(stage, running)}
            stage.play(runnings, measures, scale.growth_rounds)


def _measure_few(stage: Stage, running: Running) -> Sample:
    messages = stage.scale.growth_unicasts
    plan = {"messages": messages, "publishers": stage.scale.publishers, "gap_seconds": 0.0}
    # The topics are among the first ones, which exist in every round.
    names = [_name(number) for number in range(min(stage.scale.topic_subscriptions) // _LISTENERS)]
    return measured(running, messages, lambda: _emit(running, names, _LISTENERS, plan))


def _spread(subscriptions: int) -> list[list[str]]:
    """Each topic to two streams, at most 1,000 topics to one."""
    names = [_name(number) for number in range(subscriptions // _LISTENERS)]
    parts = [names[start : start + 1000] for start in range(0, len(names), 1000)]
    return parts * _LISTENERS


def _name(number: int) -> str:
    return f"house/{number // 100}/room/{number}"


def _open(running: Running, streams: list[list[str]]) -> None:
    endpoint = running.endpoint(PLAIN_SITE)
    running.generator.call("open_streams", address=endpoint["address"], site=PLAIN_SITE, streams=streams)
    settle(running)


def _emit(running: Running, names: list[str], receivers: int, plan: dict[str, Any]) -> dict[str, Any]:
    endpoint = running.endpoint(PLAIN_SITE)
    return running.generator.call("emit", endpoint=endpoint, topics=names, receivers=receivers, plan=plan)
