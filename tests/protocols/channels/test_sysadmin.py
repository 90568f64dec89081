"""The report about a site's channels: what it counts, and how long its list may be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.protocols.channels import sysadmin
from app.protocols.channels.sysadmin import Sysadmin
from tests.protocols.channels.conftest import SITE, ChannelsNode, NodeStarter


async def report(node: ChannelsNode) -> dict[str, Any]:
    """The data of a node's report."""
    data: dict[str, Any] = json.loads(await Sysadmin({SITE.name: node.board}, node.store).report(SITE))["data"]
    return data


async def test_it_counts_this_node_now_and_others_as_noted(start_node: NodeStarter) -> None:
    """The subscribers of the node that is asked count at once, those of another node once it has noted them."""
    node, other = await start_node(), await start_node()
    await node.create("news")
    client = node.client()
    other.client()
    assert await report(node) == {"channels": ["news"], "channelsAmount": 1, "clientsAmount": 1}
    other.door.headcount._flush()
    await other.node.delivery.drain()
    await other.door._errands.drain()
    assert (await report(node))["clientsAmount"] == 2
    client.lose()
    assert (await report(node))["clientsAmount"] == 1
    await node.server.bury(SITE, other.node.name)
    assert (await report(node))["clientsAmount"] == 0


async def test_the_list_is_bounded(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list ends at a number of names; the number beside it counts all."""
    monkeypatch.setattr(sysadmin, "MAX_NAMES", 3)
    node = await start_node()
    await node.create(*(f"channel {number}" for number in range(5)))
    data = await report(node)
    assert (len(set(data["channels"])), data["channelsAmount"]) == (3, 5)
