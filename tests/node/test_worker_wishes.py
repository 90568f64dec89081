"""Wishes of operators to a server with several workers: restart, stop and start one, restart all in turn, change their
number."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from app.store.node_calls import CallRefused, NodeSilent
from app.store.node_facts import NodeFacts, living_nodes
from tests.support.node_caller import NodeCaller, calling
from tests.support.server import Server
from tests.support.store import running_valkey
from tests.support.valkey import Valkey
from tests.support.waiting import until, until_answer

WORKERS = 2


@pytest.fixture(scope="module")
def own_valkey() -> Iterator[Valkey]:
    """A Valkey of this module's own: its server outlives a test."""
    with running_valkey() as server:
        yield server


@pytest.fixture(scope="module")
def server(own_valkey: Valkey) -> Iterator[Server]:
    """Two workers; each test finds and leaves the workers 0 and 1."""
    directory = Path(tempfile.mkdtemp(prefix="recado-"))
    (directory / "config.yml").write_text("production: {drain_timeout: 0.2}")
    settings = {"RECADO_WORKERS": str(WORKERS), "REDIS_URL": own_valkey.url, "DATABASE_URL": "none"}
    started = Server(directory, "--port", "0", "--demo", "--config", "config.yml", **settings)
    yield started
    started.end()
    shutil.rmtree(directory)


@pytest.fixture
async def caller(server: Server, own_valkey: Valkey) -> AsyncIterator[NodeCaller]:
    """A caller of the workers."""
    async with calling(own_valkey.url) as caller:
        yield caller


async def running(caller: NodeCaller, *numbers: int) -> dict[int, NodeFacts]:
    """The workers, once those with these numbers show themselves, and no other one."""

    async def shown() -> dict[int, NodeFacts] | None:
        found = {facts.worker: facts for facts in await living_nodes(caller.redis) if facts.state == "ready"}
        return found if sorted(found) == list(numbers) else None

    found = await until_answer(shown, f"the workers {numbers}", timeout_seconds=60, interval_seconds=0.1)
    assert found is not None
    return found


async def wish(caller: NodeCaller, facts: NodeFacts, verb: str, given: Any) -> Any:
    """The answer of a worker."""
    return msgspec.json.decode(await caller.calls.ask(facts.node, verb, given))


def status(server: Server, path: str) -> int:
    """The status with which some worker answers."""
    return httpx.get(f"{server.url}{path}", timeout=60).status_code


def metric(server: Server, name: str) -> set[str]:
    """The workers in the samples of a metric."""
    text = httpx.get(f"{server.url}/metrics", timeout=60).text
    return {line.partition('worker="')[2][0] for line in text.splitlines() if line.startswith(f"{name}{{")}


async def test_one_worker_is_restarted(server: Server, caller: NodeCaller) -> None:
    """A new process takes the place of the worker, without an error in the log; the other one stays."""
    before, start = await running(caller, 0, 1), len(server.lines)
    assert before[1].is_supervised
    assert await wish(caller, before[1], "end", {"how": "restart"}) == "2 workers"

    async def restarted() -> bool:
        found = {facts.worker: facts.node for facts in await living_nodes(caller.redis)}
        return found.keys() == {0, 1} and found[1] != before[1].node and found[0] == before[0].node

    await until_answer(restarted, "the new worker", timeout_seconds=60, interval_seconds=0.1)
    assert status(server, "/readyz") == 200
    assert [line for line in server.log(start) if line.get("event") == "worker ended"] == []


async def test_a_worker_is_stopped_and_started(server: Server, caller: NodeCaller) -> None:
    """A worker that ends for good is not started again, nor missed in the metrics; the last one stays."""
    before = await running(caller, 0, 1)
    assert await wish(caller, before[0], "end", {"how": "drain"}) == "1 workers"
    left = await running(caller, 1)
    assert metric(server, "recado_worker_up") == {"1"}
    with pytest.raises(CallRefused, match="last worker"):
        await wish(caller, left[1], "end", {"how": "now"})
    assert await wish(caller, left[1], "workers", {"verb": "start", "number": 0}) == "2 workers"
    await running(caller, 0, 1)
    assert metric(server, "recado_worker_up") == {"0", "1"}


async def test_another_number_of_workers(server: Server, caller: NodeCaller) -> None:
    """Workers are added and taken away while the others serve."""
    before = await running(caller, 0, 1)
    assert await wish(caller, before[0], "workers", {"verb": "resize", "number": 3}) == "3 workers"
    more = await running(caller, 0, 1, 2)
    assert more[0].node == before[0].node
    assert metric(server, "recado_worker_up") == {"0", "1", "2"}
    assert await wish(caller, more[2], "workers", {"verb": "resize", "number": 2}) == "2 workers"
    await running(caller, 0, 1)
    with pytest.raises(CallRefused, match="expected 2 to"):
        await wish(caller, before[0], "workers", {"verb": "resize", "number": 1})


async def test_all_workers_are_restarted_in_turn(server: Server, caller: NodeCaller) -> None:
    """At each moment one worker serves at least, and at the end all are new; a second wish meanwhile is refused."""
    before, start = await running(caller, 0, 1), len(server.lines)
    assert await wish(caller, before[0], "workers", {"verb": "roll"}) == "2 workers"
    with pytest.raises(CallRefused, match="already"):
        await wish(caller, before[1], "workers", {"verb": "roll"})
    old = {facts.node for facts in before.values()}

    async def rolled() -> bool:
        assert status(server, "/healthz") == 200
        found = [facts for facts in await living_nodes(caller.redis) if facts.state == "ready"]
        return len(found) == WORKERS and not old & {facts.node for facts in found}

    await until_answer(rolled, "new workers", timeout_seconds=60, interval_seconds=0.1)
    await until(
        lambda: [line for line in server.log(start) if line.get("event") == "workers restarted"], "the line of the end"
    )


async def test_a_killed_worker_is_no_ghost(caller: NodeCaller) -> None:
    """After SIGKILL the node is shown for less than 10 s, and does not answer; another one takes its place."""
    before = await running(caller, 0, 1)
    os.kill(before[1].pid, signal.SIGKILL)
    with pytest.raises(NodeSilent):
        await caller.calls.ask(before[1].node, "log_level", {"level": "info"})

    async def is_gone() -> bool:
        return before[1].node not in {facts.node for facts in await living_nodes(caller.redis)}

    await until_answer(is_gone, "the end of the ghost", timeout_seconds=60, interval_seconds=0.1)
    after = await running(caller, 0, 1)
    assert after[0].node == before[0].node
