"""The whole bench runs in miniature against real servers, so that it cannot rot."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.__main__ import run, save
from bench.contenders import ACKNOWLEDGED_SITE, CONTENDERS, PLAIN_SITE, Running, start
from bench.jitter import RESET
from bench.processes import ROOT, BenchError
from bench.scale import TINY
from bench.scenarios import SCENARIOS
from bench.stage import Stage, open_stage
from bench.targets import judge_further


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Yield a stage with a running tenant backend and no contender."""
    with open_stage(tmp_path, TINY, [], is_pinned=False) as opened:
        yield opened


@pytest.fixture
def node(stage: Stage) -> Iterator[Running]:
    """Yield the running Node peer."""
    running = start(CONTENDERS["node"], stage.place)
    yield running
    running.stop()


def connect(running: Running, site: str, count: int, engine_version: int = 4, batch_messages: int = 0) -> None:
    """Connect devices to a site of a running peer."""
    boarding = {"first": 0, "count": count, "concurrency": 10, "room_sizes": [2], "batch_messages": batch_messages}
    running.generator.call("connect", target=running.target(site, engine_version), boarding=boarding)


def is_running(pid: int) -> bool:
    """Tell whether a process exists."""
    return Path(f"/proc/{pid}").exists()


def test_every_scenario_runs_and_is_saved(tmp_path: Path) -> None:
    """A tiny run of Node and the floor measures each scenario for every contender that can play it, and saves three
    files."""
    results = run(TINY, list(SCENARIOS), ["node", "floor"], is_pinned=False)
    both, two_nodes = {"node", "floor"}, {"node", "node-recovery"}
    assert {name: set(contenders) for name, contenders in results.samples.items()} == {
        "connect": {"node"},
        "fan-out acked": both,
        "fan-out plain": both,
        "unicast": both,
        "replay": {"node"},
        "latency": both,
        "idle": both,
        "slow readers": both,
        "jitter, cut with a reset": two_nodes,
        "jitter, cut in silence": two_nodes,
        "connect, TLS": {"node"},
        "fan-out acked, TLS": {"node"},
        "fan-out plain, TLS": {"node"},
        "fan-out to 1": both,
        "fan-out to 10": both,
        "unicast, 10 connected": both,
        "unicast, 20 connected": both,
    }
    recoveries = [sample["recovered_percent"] for sample in results.samples[RESET]["node-recovery"]]
    assert recoveries[0] > 0
    assert "fan-out acked" in save(results, TINY, tmp_path, is_whole=False)
    assert {path.name for path in tmp_path.iterdir()} == {"partial.json", "partial.md", "partial.svg"}


def test_what_recado_alone_can_play_runs() -> None:
    """A push into a channel is measured in turns with the fan-out beside it, each receipt counted."""
    results = run(TINY, ["channels"], ["recado", "node"], is_pinned=False)
    assert {name: set(contenders) for name, contenders in results.samples.items()} == {
        "channel push": {"recado"},
        "fan-out beside channels": {"recado"},
    }


def test_the_journal_is_measured_on_and_off() -> None:
    """The same server is measured with a journal and without, in turns, and judged by the ratio."""
    results = run(TINY, ["journal"], ["recado", "node"], is_pinned=False)
    assert {name: set(contenders) for name, contenders in results.samples.items()} == {
        name: {"recado", "recado-journal"} for name in ("journal, connect", "journal", "journal, unicast")
    }
    assert len([verdict for verdict in judge_further(results, TINY) if "journal" in verdict.name]) == 2


def test_viewers_of_the_console_are_measured() -> None:
    """A server is measured without a console, and one with a console that nobody, five and 25 live pages look at; the
    verdicts are on what these add."""
    results = run(TINY, ["console"], ["recado", "node"], is_pinned=False)
    on, off = "recado-console", "recado-no-console"
    assert {name: set(contenders) for name, contenders in results.samples.items()} == {
        "console, nobody looks": {on, off},
        "console, five viewers": {on},
        "console, five viewers of all five pages": {on},
    }
    assert len([verdict for verdict in judge_further(results, TINY) if "console" in verdict.name]) == 3


def test_fairness_runs() -> None:
    """A site of Recado floods, and is refused, while another's fan-out is measured; peers, which know no limits, do not
    take part."""
    results = run(TINY, ["fairness"], ["recado", "node"], is_pinned=False)
    assert {name: set(contenders) for name, contenders in results.samples.items()} == {
        "fan-out, others calm": {"recado"},
        "fan-out, another floods": {"recado"},
    }


@pytest.mark.parametrize("engine_version", [3, 4])
def test_both_engine_versions_receive_acknowledge_and_replay(node: Running, engine_version: int) -> None:
    """A device of either Engine.IO version gets live messages, and after a reconnect the ones that it has missed."""
    site = node.endpoint(ACKNOWLEDGED_SITE)
    connect(node, ACKNOWLEDGED_SITE, 4, engine_version)
    plan = {"messages": 3, "publishers": 1, "gap_seconds": 0.0}
    answer = node.generator.call("fan_out", endpoint=site, room="first_2", receivers=2, plan=plan)
    assert (answer["receipts"], answer["duplicates"]) == (6, 0)
    node.generator.call("disconnect")
    node.generator.call("queue", endpoint=site, users=4, messages=5)
    connect(node, ACKNOWLEDGED_SITE, 4, engine_version, batch_messages=5)
    node.generator.call("disconnect")
    connect(node, ACKNOWLEDGED_SITE, 4, engine_version)


def test_a_batch_that_should_not_come_is_an_error(node: Running) -> None:
    """The generator does not measure wrong behaviour: it reports messages that should have been gone."""
    connect(node, ACKNOWLEDGED_SITE, 1)
    node.generator.call("disconnect")
    node.generator.call("queue", endpoint=node.endpoint(ACKNOWLEDGED_SITE), users=1, messages=2)
    with pytest.raises(BenchError, match="_batch"):
        connect(node, ACKNOWLEDGED_SITE, 1, batch_messages=1)


def test_a_message_that_does_not_arrive_is_an_error(node: Running) -> None:
    """A burst whose receipts do not come ends with its time-out and says how many are missing."""
    connect(node, PLAIN_SITE, 2)
    plan = {"messages": 1, "publishers": 1, "gap_seconds": 0.0, "timeout_seconds": 0.3}
    with pytest.raises(BenchError, match="1 of 1 messages are incomplete"):
        node.generator.call("fan_out", endpoint=node.endpoint(PLAIN_SITE), room="all", receivers=3, plan=plan)


def test_stopping_ends_all_processes(stage: Stage) -> None:
    """After `stop()` neither the server nor its generator exists."""
    running = start(CONTENDERS["floor"], stage.place)
    pids = [running.server.pid, running.generator.pid]
    assert all(is_running(pid) for pid in pids)
    running.stop()
    assert not any(is_running(pid) for pid in pids)


def test_ctrl_c_ends_a_run_and_its_processes() -> None:
    """SIGINT in the middle of a run gives exit 130, and the processes it had started end, one that was being started
    included: the kernel ends that one with its parent, so that the test awaits the end of each."""
    command = [sys.executable, "-m", "bench", "--tiny", "--peers", "floor", "--only", "idle,growth", "--no-pin"]
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        )
        assert process.stderr is not None
        while b"  idle" not in process.stderr.readline():
            assert process.poll() is None
        started = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ends = []
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                ends.append(os.pidfd_open(int(pid)))
                stack.callback(os.close, ends[-1])
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert ends
        assert all(select.select([end], [], [], 30)[0] for end in ends)
