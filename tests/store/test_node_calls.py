"""Calls between nodes: answered, refused, silent, bounded; on one server and on a Cluster."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from app.errors import RecadoError
from app.store import node_calls
from app.store.keys import NODES, bus_channel
from app.store.node_calls import ANSWER, CALL, CallRefused, NodeSilent, values_of
from tests.support.node_caller import calling
from tests.support.topologies import valkey_cluster
from tests.support.valkey import Valkey
from tests.support.waiting import until


async def double(given: Any) -> Any:
    """A handler."""
    return [given, given]


async def test_a_call_is_answered(valkey: Valkey) -> None:
    """The answer is what the other node's handler returns, also for half a pair; a node may call itself."""
    async with calling(valkey.url) as here, calling(valkey.url) as there:
        there.calls.handlers["double"] = here.calls.handlers["double"] = double
        assert msgspec.json.decode(await here.calls.ask(there.name, "double", {"a": 1})) == [{"a": 1}] * 2
        assert msgspec.json.decode(await here.calls.ask(there.name, "double", "\ud800")) == ["?", "?"]
        assert msgspec.json.decode(await here.calls.ask(here.name, "double")) == [None, None]


async def test_calls_on_a_cluster() -> None:
    """Nodes hear calls on the shard that holds the name of their channel, whatever sites there are."""
    with valkey_cluster() as cluster:
        async with calling(cluster.url) as here, calling(cluster.url) as there, calling(cluster.url) as third:
            for one in (here, there, third):
                one.calls.handlers["double"] = double
            answers = await here.calls.ask_each([here.name, there.name, third.name], "double", 1)
            found, silent = values_of(answers, list[int])
            assert (list(found.values()), silent) == ([[1, 1]] * 3, {})


async def test_a_refusal(valkey: Valkey) -> None:
    """The caller is told why: what the handler says, arguments of a wrong form, a command that nobody knows."""
    async with calling(valkey.url) as here, calling(valkey.url) as there:

        async def refuse(given: Any) -> Any:
            raise CallRefused("not now")

        async def read(given: Any) -> Any:
            return node_calls.arguments_of(given, list[int])

        there.calls.handlers |= {"refuse": refuse, "read": read}
        for verb, text in (("refuse", "not now"), ("read", "Expected `array`"), ("nothing", "does not know")):
            with pytest.raises(CallRefused, match=text):
                await here.calls.ask(there.name, verb, "words")


async def test_a_silent_node_costs_its_own_time(valkey: Valkey) -> None:
    """A node that nobody hears is told of at once, one that hangs after its time; the others have answered."""
    async with calling(valkey.url) as here, calling(valkey.url, answer_seconds=1.5) as there:
        reached = asyncio.Event()

        async def hang(given: Any) -> Any:
            reached.set()
            await asyncio.Event().wait()

        here.calls.handlers["work"] = double
        there.calls.handlers["work"] = hang
        answers = await here.calls.ask_each([here.name, "ffffffffff", there.name], "work", 1)
        assert reached.is_set()
        found, silent = values_of(answers, list[int])
        assert found == {here.name: [1, 1]}
        assert silent.keys() == {"ffffffffff", there.name}
        with pytest.raises(NodeSilent):
            await here.calls.ask("ffffffffff", "work")
        assert here.calls._waiting == {}


async def test_all_living_nodes_are_asked(valkey: Valkey) -> None:
    """The nodes that beat are asked, this one among them; a dead one is named, and one that is buried is not asked."""
    async with calling(valkey.url) as here, calling(valkey.url) as there:
        here.calls.handlers["work"] = there.calls.handlers["work"] = double
        valkey.client.zadd(NODES, {here.name: 1, there.name: 2, "ffffffffff": 3, "~eeeeeeeeee": 4})
        found, silent = await here.calls.ask_all("work", 1)
        assert found == {here.name: [1, 1], there.name: [1, 1]}
        assert silent.keys() == {"ffffffffff"}


async def test_calls_are_bounded(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node answers so many calls at a time, waits for so many answers, and gives none that is too long."""
    monkeypatch.setattr(node_calls, "MOST_CALLS", 2)
    async with calling(valkey.url) as here, calling(valkey.url) as there:
        go_on = asyncio.Event()
        begun: list[Any] = []

        async def wait(given: Any) -> Any:
            begun.append(given)
            await go_on.wait()
            return "x" * 100

        there.calls.handlers["wait"] = wait
        asked = [asyncio.ensure_future(here.calls.ask(there.name, "wait", number)) for number in range(2)]
        await until(lambda: len(begun) == 2, "two calls")
        # `calling` puts it back.
        node_calls.ANSWER_SECONDS = 0.2
        with pytest.raises(NodeSilent):
            await here.calls.ask(there.name, "wait", 2)
        monkeypatch.setattr(node_calls, "MOST_WAITING_CALLS", 2)
        with pytest.raises(NodeSilent, match="too many"):
            await here.calls.ask(there.name, "wait", 3)
        assert begun == [0, 1]
        monkeypatch.setattr(node_calls, "MAX_ANSWER_BYTES", 50)
        go_on.set()
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(answer, CallRefused)
            assert "longer than 50 bytes" in str(answer)


async def test_what_cannot_be_read(valkey: Valkey) -> None:
    """A call or an answer of another version is logged and passed over; the next call is answered."""
    async with calling(valkey.url) as here, calling(valkey.url) as there:
        there.calls.handlers["double"] = double
        with capture_logs() as lines:
            calls = (CALL + b"{", CALL + b"[" * 5_000, CALL + b'{"number":1}')
            for data in (*calls, ANSWER + b"\xff", ANSWER + b'{"number":99}'):
                valkey.client.publish(bus_channel(there.name), data)
            assert msgspec.json.decode(await here.calls.ask(there.name, "double", 1)) == [1, 1]
        assert [line["event"] for line in lines].count("call not readable") == 4


def test_values_of_another_form() -> None:
    """An answer that has not the expected form counts as none."""
    answers: dict[str, bytes | RecadoError] = {"a": b"[1]", "b": b'"text"', "c": NodeSilent()}
    found, silent = values_of(answers, list[int])
    assert found == {"a": [1]}
    assert silent.keys() == {"b", "c"}
    assert silent["c"] == "The node does not answer"
