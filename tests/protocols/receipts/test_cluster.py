"""The scripts of receipts on a Cluster, where each site is on one shard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from app.core.message import Message
from app.core.options import MessageOptions
from app.core.ports import ConnectNotes
from app.protocols.receipts.ports import Scan, Steps
from app.protocols.receipts.redis_queues import RedisQueueReader
from app.protocols.receipts.waiting_messages import ReceiptPlace, devices_waiting, find_waiting
from tests.support.store import StoreNode, make_site
from tests.support.topologies import ValkeyCluster, valkey_cluster

#: On different shards.
SITES = [make_site(name, api_key="key") for name in ("shop", "other", "third")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    """Three primaries."""
    with valkey_cluster() as running:
        yield running


@pytest.fixture
async def node(cluster: ValkeyCluster) -> AsyncIterator[StoreNode]:
    """One node of the Cluster."""
    node = await StoreNode.start(cluster.url, SITES)
    yield node
    await node.close()


async def test_every_site_is_read_on_its_shard(node: StoreNode) -> None:
    """Devices, queues, messages and their devices are found, whichever primary has the site."""
    reader = RedisQueueReader(node.redis)
    for site in SITES:
        await node.queues.connect(site, 1, "phone", ["user_1", "cats"], ConnectNotes(client="websocket 4 Opera"))
        plain = Message(site, 5, ["cats"], "news", b'["news"]')
        kept = Message(site, 6, ["user_1"], "news", b'["news"]', options=MessageOptions(ttl=60))
        seqs = [(await node.delivery.publish(message)).seq for message in (plain, kept)]
        handle = await reader.find_device(site, "user_1", "phone")
        assert handle is not None
        (device,) = await reader.describe_devices(site, [handle], Steps(9))
        assert device
        assert device.messages == 2
        assert await reader.user_rooms(site, ["user_1"]) == [["cats", "user_1"]]
        assert (await reader.handles(site, "user:user_1", Scan(), 9, Steps(9))).handles == [handle]
        assert [one.seq for one in (await reader.queue(site, handle, 0, 9)).messages] == seqs
        assert (await reader.waiting_seqs(site, None, 9)).seqs == seqs[::-1]
        for id in (5, 6):
            message = await find_waiting(reader, site, id, Steps(9))
            assert message
            part = await devices_waiting(reader, site, message, ReceiptPlace(), 9, Steps(9))
            assert [device.device for device in part.devices] == ["phone"]
