"""The size of a run: numbers only, so that a test can run the whole bench in miniature."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JitterScale:
    """Devices, the messages to all of them at a steady rate, and the cuts of the connections of each."""

    devices: int
    messages: int
    gap_seconds: float
    every_seconds: float
    cut_seconds: float
    # The run is over when nothing has come for this time; for the other one, as long as something is missing.
    quiet_seconds: float
    patience_seconds: float


@dataclass(frozen=True)
class Scale:
    """One size of the bench. `rounds` are measured; one more before them is not, as it warms the servers up."""

    name: str
    rounds: int
    devices: int
    concurrency: int
    fan_out_messages: int
    unicast_messages: int
    publishers: int
    replay_devices: int
    replay_messages: int
    latency_messages: int
    idle_devices: int
    idle_rounds: int
    idle_seconds: float
    slow_devices: int
    slow_readers: int
    slow_messages: int
    slow_payload_bytes: int
    jitter: JitterScale
    fairness_messages: int
    # Devices, those that a message reaches, messages of a round and the pause between two.
    console_devices: int
    console_fan_out: int
    console_messages: int
    console_gap_seconds: float
    growth_rounds: int
    growth_fan_outs: tuple[int, ...]
    growth_connections: tuple[int, ...]
    # How many deliveries a point of the fan-out curve is measured over (at most 300 messages).
    growth_deliveries: int
    growth_unicasts: int
    # Few and many, of topics with two streams each.
    topic_subscriptions: tuple[int, int]
    # Connections as they grow, and devices that a message reaches, over this many server and generator processes.
    large_connections: tuple[int, ...]
    large_fan_outs: tuple[int, ...]
    large_workers: int
    large_generators: int
    large_rounds: int
    large_unicasts: int
    # Messages to all, one after the other, while another site sends.
    large_messages: int
    # How often all devices lose their server: with resume tickets, and then without.
    large_returns: int
    limit_seconds: int


FULL = Scale(
    name="full",
    rounds=5,
    devices=1000,
    concurrency=50,
    fan_out_messages=30,
    unicast_messages=4000,
    publishers=32,
    replay_devices=1000,
    replay_messages=20,
    latency_messages=50,
    idle_devices=5000,
    idle_rounds=3,
    idle_seconds=25.0,  # one ping interval: each device is pinged once
    slow_devices=100,
    slow_readers=10,
    slow_messages=600,
    slow_payload_bytes=16_000,
    jitter=JitterScale(
        devices=200,
        messages=60,
        gap_seconds=0.5,
        every_seconds=15.0,
        cut_seconds=1.0,
        quiet_seconds=1.0,
        patience_seconds=5.0,
    ),
    fairness_messages=200,
    console_devices=10000,
    console_fan_out=500,
    console_messages=200,
    console_gap_seconds=0.07,
    growth_rounds=3,
    growth_fan_outs=(1, 10, 100, 500, 1000, 5000),
    growth_connections=(10, 100, 1000, 5000, 10_000),
    growth_deliveries=20_000,
    growth_unicasts=3000,
    topic_subscriptions=(100, 100_000),
    large_connections=(10, 1000, 10_000, 20_000, 50_000),
    large_fan_outs=(10, 500, 5000, 20_000, 50_000),
    large_workers=4,
    large_generators=4,
    large_rounds=2,
    large_unicasts=1500,
    large_messages=3,
    large_returns=2,
    limit_seconds=3600,
)

QUICK = Scale(
    name="quick",
    rounds=2,
    devices=1000,
    concurrency=50,
    fan_out_messages=15,
    unicast_messages=2000,
    publishers=32,
    replay_devices=500,
    replay_messages=20,
    latency_messages=30,
    idle_devices=2000,
    idle_rounds=1,
    idle_seconds=25.0,
    slow_devices=100,
    slow_readers=10,
    slow_messages=300,
    slow_payload_bytes=16_000,
    jitter=JitterScale(
        devices=100,
        messages=20,
        gap_seconds=0.5,
        every_seconds=5.0,
        cut_seconds=1.0,
        quiet_seconds=1.0,
        patience_seconds=5.0,
    ),
    fairness_messages=60,
    console_devices=2000,
    console_fan_out=500,
    console_messages=100,
    console_gap_seconds=0.07,
    growth_rounds=1,
    growth_fan_outs=(1, 10, 100, 500, 1000, 2000),
    growth_connections=(10, 100, 1000, 2000),
    growth_deliveries=10_000,
    growth_unicasts=1500,
    topic_subscriptions=(100, 100_000),
    large_connections=(10, 500, 2000, 10_000),
    large_fan_outs=(10, 500, 2000, 10_000),
    large_workers=2,
    large_generators=2,
    large_rounds=1,
    large_unicasts=1000,
    large_messages=3,
    large_returns=2,
    limit_seconds=900,
)

TINY = Scale(
    name="tiny",
    rounds=1,
    devices=20,
    concurrency=10,
    fan_out_messages=3,
    unicast_messages=20,
    publishers=4,
    replay_devices=10,
    replay_messages=3,
    latency_messages=3,
    idle_devices=20,
    idle_rounds=1,
    idle_seconds=0.2,
    slow_devices=6,
    slow_readers=2,
    slow_messages=5,
    slow_payload_bytes=2000,
    jitter=JitterScale(
        devices=6,
        messages=8,
        gap_seconds=0.1,
        every_seconds=0.4,
        cut_seconds=0.2,
        quiet_seconds=0.2,
        patience_seconds=0.5,
    ),
    fairness_messages=20,
    console_devices=20,
    console_fan_out=10,
    console_messages=4,
    console_gap_seconds=0.05,
    growth_rounds=1,
    growth_fan_outs=(1, 10),
    growth_connections=(10, 20),
    growth_deliveries=20,
    growth_unicasts=10,
    topic_subscriptions=(10, 40),
    large_connections=(4, 10, 24),
    large_fan_outs=(10, 24),
    large_workers=1,
    large_generators=2,
    large_rounds=1,
    large_unicasts=10,
    large_messages=2,
    large_returns=1,
    limit_seconds=120,
)
