"""A message with a guard: it is published while Redis holds the guarded field, and not at all otherwise."""

from __future__ import annotations

import asyncio

import pytest

from app.config.settings import HistoryLimit, Site
from app.core.message import Audience, Guard
from app.errors import GuardRefused
from app.store.keys import prefix
from tests.core.conftest import NodeStarter
from tests.core.test_audiences import Listener
from tests.support.store import heard, make_message, make_site
from tests.support.valkey import Valkey
from tests.support.waiting import until

QUEUES = make_site()
PLAIN = make_site("plain", user_room_prefix=None)
DIGEST = bytes(range(32))
both = pytest.mark.parametrize("tenant", [QUEUES, PLAIN], ids=["queues", "no queues"])


def hold(valkey: Valkey, site: str, digest: bytes = DIGEST) -> None:
    """Redis holds the field that the messages of these tests depend on."""
    valkey.client.hset(f"{prefix(site)}channels", "news", digest)


@both
@pytest.mark.parametrize("held", [None, DIGEST[:-1] + b"\0"], ids=["missing", "differs"])
async def test_nothing_happens_when_the_guard_does_not_hold(
    start_node: NodeStarter, valkey: Valkey, tenant: Site, held: bytes | None
) -> None:
    """The message is refused: it is in no queue, room, audience or history."""
    node = await start_node(tenant)
    if held:
        hold(valkey, tenant.name, held)
    listener = Listener(node)
    await listener.audiences.join(tenant, ["news"])
    device = await node.open(tenant, ["user_1"])
    before = valkey.dump()
    audience = Audience("channels", ["news"], history=HistoryLimit())
    message = make_message(tenant, ["user_1"], audiences=[audience], guard=Guard("channels", "news", DIGEST, True))
    with pytest.raises(GuardRefused) as refusal:
        await node.delivery.publish(message)
    assert refusal.value.is_missing == (held is None)
    assert valkey.dump() == before
    body = await node.publish(tenant, ["user_1"])
    assert await heard(device, 1) == [body]
    assert listener.heard == []


@both
async def test_a_guard_that_holds_lets_the_message_pass(start_node: NodeStarter, valkey: Valkey, tenant: Site) -> None:
    """The message is published. The field stays, unless the message removes it: then the message passes only once."""
    node = await start_node(tenant)
    hold(valkey, tenant.name)
    listener = Listener(node)
    await listener.audiences.join(tenant, ["news"])
    audience = Audience("channels", ["news"])

    async def publish(is_removed: bool) -> None:
        guard = Guard("channels", "news", DIGEST, is_removed)
        await node.delivery.publish(make_message(tenant, [], audiences=[audience], guard=guard))

    await publish(False)
    outcomes = await asyncio.gather(*(publish(True) for _ in range(5)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(GuardRefused) == 4
    await until(lambda: len(listener.heard) == 2, "both messages")
    assert not [key for key in valkey.dump() if key.endswith(":channels")]
