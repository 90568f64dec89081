"""Connections over TLS as operators see them, and the certificate of their node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import websockets.asyncio.client

from app.core.live import LiveRow
from app.store.node_calls import values_of
from app.store.node_facts import NodeFacts, living_nodes
from tests.support.certificates import Authority
from tests.support.channels import KEY
from tests.support.clients import WEBSOCKET, ClientKind
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.node_caller import NodeCaller, calling
from tests.support.node_clients import NodeClients
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant
from tests.support.waiting import until_answer

SITE = "alpha"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The authority that the clients trust."""
    return Authority(tmp_path)


@pytest.fixture
def deployment(tenant: Tenant, authority: Authority) -> Iterator[Deployment]:
    """A node that ends TLS itself, with a journal."""
    pair = authority.sign("www.example.com", days=30)
    sites = {SITE: contract_sites(tenant)[SITE], "shop": {"apiKey": KEY, "channels": {}, "topics": {}}}
    config = {"tls": {"cert": str(pair.cert), "key": str(pair.key)}}
    server = Deployment(sites, config, environment={"DATABASE_URL": "sqlite:///journal.sqlite"})
    server.trust(authority.client_context())
    yield server
    server.end()


async def facts_of_node(caller: NodeCaller) -> NodeFacts:
    """The facts of the only node, once it serves."""

    async def serving() -> list[NodeFacts]:
        return [facts for facts in await living_nodes(caller.redis) if facts.certificate is not None]

    return (await until_answer(serving, "the node", timeout_seconds=60, interval_seconds=0.1))[0]


async def test_tls_of_connections(
    deployment: Deployment, drivers: Drivers, tenant: Tenant, authority: Authority
) -> None:
    """Each connection tells its protocol and cipher, whatever its kind; the node tells its certificate."""
    user, context = tenant.user(), authority.client_context()
    node_clients = NodeClients(trusted=authority.cert)
    connector = Connector(deployment, Drivers(node_clients, drivers.python))
    address = deployment.url.replace("https", "wss") + "/channels/shop"
    try:
        async with calling(deployment.redis.url) as caller:
            facts = await facts_of_node(caller)
            await asyncio.to_thread(connector, SITE, user, ClientKind("4", WEBSOCKET))
            async with (
                websockets.asyncio.client.connect(address, ssl=context),
                httpx.AsyncClient(verify=context) as client,
                client.stream("GET", f"{deployment.url}/topics/shop/stream?topic=weather") as response,
            ):
                assert response.status_code == 200

                async def listed() -> dict[str, str | None] | None:
                    answers = await caller.calls.ask_each([facts.node], "connections", {"limit": 9})
                    rows = [row for part in values_of(answers, list[LiveRow])[0].values() for row in part]
                    return {row.protocol: row.facts.tls for row in rows} if len(rows) == 3 else None

                found = await until_answer(listed, "three connections", timeout_seconds=60, interval_seconds=0.1)
        assert found is not None
        assert found.keys() == {"sites", "channels", "topics"}
        assert [tls for tls in found.values() if not (tls or "").startswith("TLSv1.3 TLS_")] == []
        assert facts.certificate is not None
        assert "www.example.com" in facts.certificate.subject
        assert facts.certificate.valid_from < facts.at < facts.certificate.valid_until
    finally:
        connector.close()
        node_clients.end()
