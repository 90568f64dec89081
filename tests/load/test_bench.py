"""The runs of several nodes: any node stops them."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from app.canary.wire import OwnPort
from app.errors import RequestRefused
from app.load.plan import LoadPlan
from app.node.load_bench import LoadBench, Server
from tests.support.node_caller import calling
from tests.support.valkey import Valkey


class Runs:
    """Remembers how runs end."""

    def __init__(self) -> None:
        self.ends: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

    async def begin(self, plan: LoadPlan, description: str, operator: str, node: str) -> int | None:
        """The first run."""
        return 1

    async def end(self, id: int, state: str, totals: dict[str, Any]) -> None:
        """Remembers it."""
        self.ends.put_nowait((id, state))


async def test_a_run_is_stopped_from_another_node(valkey: Valkey) -> None:
    """A node asks the one that has the run; one that runs no more is told so, and so is a node that is silent."""
    runs = Runs()
    async with calling(valkey.url) as here, calling(valkey.url) as there:
        benches = [LoadBench(Server(one.name, "key"), runs, one.calls) for one in (here, there)]
        # Nobody answers on this port: the devices wait for it until they are stopped.
        with socket.create_server(("127.0.0.1", 0)) as silent:
            benches[0].listens(OwnPort("127.0.0.1", silent.getsockname()[1], None))
            id = await benches[0].start(LoadPlan(seconds=100), "", "ana")
            assert await benches[1].stop(id + 1, here.name) is False
            assert await benches[1].stop(id, there.name) is False
            assert await benches[1].stop(id, here.name) is True
            assert await asyncio.wait_for(runs.ends.get(), 30) == (id, "stopped")
            assert await benches[1].stop(id, here.name) is False
        with pytest.raises(RequestRefused, match="does not answer"):
            await benches[1].stop(id, "0" * 16)
