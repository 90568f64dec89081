"""Nodes with channels on a real Valkey, and subscribers on sockets that record what is written."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from app.config.settings import Site
from app.core.limits import Limits
from app.digests import digest
from app.ids import FlakeIds
from app.protocols.channels.door import Door
from app.protocols.channels.opening import OpeningRequest
from app.protocols.channels.publishers import Publishers
from app.protocols.channels.redis_channels import RedisChannels
from app.protocols.channels.server import ChannelsServer, ChannelsSettings
from app.protocols.channels.settings import Channels
from app.protocols.channels.sockets import Heartbeat
from app.protocols.channels.subscriber import Subscriber
from app.store.seats import RedisSeats
from app.transport.deadline_wheel import DeadlineWheel
from tests.protocols.channels.test_subscriber import Socket
from tests.support.store import StoreNode, make_site
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = make_site(channels=Channels(open_create=True, history_messages=50))
PLAIN = OpeningRequest(False, "", "")
RESUMABLE = OpeningRequest(True, "", "")
_numbers = itertools.count(1)


class Client:
    """A subscriber without a network: its socket records the writes, and a test may control its pongs."""

    def __init__(self, door: Door, wish: OpeningRequest, answers_pings: bool) -> None:
        self.socket = Socket()
        heartbeat = Heartbeat(DeadlineWheel(1), 60, 60)
        self.subscriber = Subscriber(str(uuid4()), door, heartbeat)
        if answers_pings:
            self.socket.write_ping = self.subscriber.pong_received  # type: ignore[method-assign]
        self.subscriber.attach(self.socket)
        door.open(self.subscriber, wish)

    async def acked(self, count: int = 1) -> dict[str, Any]:
        """The data of the CLIENT_ACK with this number, once it was written."""
        return dict((await until(lambda: self._acks()[count - 1 : count], f"ack {count}"))[0]["data"])

    async def act(self, action: str, channel: str) -> dict[str, Any]:
        """Send SUBSCRIBE or UNSUBSCRIBE; return the answer."""
        before = len(self.socket.written)
        text = {"messageType": "CLIENT_ACTION", "action": action, "data": {"channel": channel}}
        self.subscriber.text_received(msgspec.json.encode(text))
        return dict((await until(lambda: self.socket.written[before:], f"{action} {channel} to be answered"))[0])

    async def pushed(self, count: int) -> list[str]:
        """The messages pushed to it, once there are this many."""
        await until(lambda: len(self.messages) >= count, f"{count} pushes")
        return self.messages

    @property
    def messages(self) -> list[str]:
        """The messages pushed to it so far."""
        pushes = [one for one in self._dicts() if one["messageType"] == "CLIENT_PUSH"]
        return [one["data"]["pushMessage"]["message"] for one in pushes]

    @property
    def closings(self) -> list[Any]:
        """The close codes and reasons written to it."""
        return [one for one in self.socket.written if isinstance(one, tuple)]

    def lose(self) -> None:
        """Lose the connection."""
        self.subscriber.connection_lost(1006, "")

    def _acks(self) -> list[dict[str, Any]]:
        return [one for one in self._dicts() if one["messageType"] == "CLIENT_ACK"]

    def _dicts(self) -> list[dict[str, Any]]:
        return [one for one in self.socket.written if isinstance(one, dict)]


class ChannelsNode:
    """One node with the protocol. Lives for one test."""

    def __init__(self, node: StoreNode, site: Site) -> None:
        self.node = node
        self.site = site
        self.store = RedisChannels(node.redis, node.name)
        limits = Limits(RedisSeats(node.redis, node.name))
        ids = FlakeIds(0, next(_numbers) % 32)
        settings = ChannelsSettings()
        self.server = ChannelsServer({site.name: site}, node.delivery, self.store, ids, limits, settings)
        self.door = self.server.doors[site.name]
        self.board = self.door.board
        self._publishers = Publishers(node.delivery, self.store, ids, self.server._errands, settings.reading)
        self.tokens: dict[str, str] = {}

    async def create(self, *channels: str) -> None:
        """Create channels; the name of each is also its token."""
        for channel in channels:
            await self.store.create_channel(self.site, channel, digest(channel))

    async def push(self, channel: str, message: str, *recipients: str) -> int:
        """Push with the right token; return the status."""
        data = {"channel": channel, "channelToken": channel, "recipients": list(recipients), "message": message}
        return (await self._publishers.push(self.site, _action("PUSH_MESSAGE", data))).code

    async def delete(self, channel: str) -> int:
        """Delete a channel; return the status."""
        data = {"channel": channel, "channelToken": channel}
        return (await self._publishers.delete(self.site, _action("DELETE_CHANNEL", data))).code

    def client(self, wish: OpeningRequest = PLAIN, answers_pings: bool = True) -> Client:
        """A connecting subscriber."""
        return Client(self.door, wish, answers_pings)

    async def settled(self) -> None:
        """Wait until everything that was started has reached Redis."""
        await self.node.delivery.drain()
        await self.server.close()


def _action(action: str, data: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"messageType": "SERVER_ACTION", "action": action, "data": data})


class NodeStarter:
    """Starts nodes on the shared Valkey; they are closed at the end of the test."""

    def __init__(self, server: Valkey, stack: AsyncExitStack) -> None:
        self._server = server
        self._stack = stack

    async def __call__(self, site: Site = SITE) -> ChannelsNode:
        """Start one node for this site."""
        node = await StoreNode.start(self._server, [site])
        self._stack.push_async_callback(node.close)
        return ChannelsNode(node, site)


@pytest.fixture
async def start_node(valkey: Valkey) -> AsyncIterator[NodeStarter]:
    """Starts nodes."""
    async with AsyncExitStack() as stack:
        yield NodeStarter(valkey, stack)
