"""Nodes on several machines that speak TLS and want certificates of their clients: requests are passed on over TLS."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from websockets.sync.client import connect

from tests.support.certificates import Authority, Pair
from tests.support.ports import free_port
from tests.support.server import Server
from tests.support.sites import contract_sites
from tests.support.store import running_valkey
from tests.support.tenant import Tenant


class Machines:
    """Two nodes with certificates of one authority, whose socket files are gone. `end` ends them."""

    def __init__(self, tenant: Tenant, redis_url: str) -> None:
        # The path of a unix socket may have 107 characters, so the directory's path is short.
        self.directory = Path(tempfile.mkdtemp(prefix="recado-"))
        self.authority = Authority(self.directory)
        self.client: Pair = self.authority.sign("client")
        (self.directory / "sites.yml").write_text(yaml.safe_dump(contract_sites(tenant)))
        self.nodes: list[Server] = []
        for name in ("one", "two"):
            self.nodes.append(self._start(name, redis_url))

    def _start(self, name: str, redis_url: str) -> Server:
        pair, port = self.authority.sign(name), free_port()
        names = {"CERT": pair.cert, "KEY": pair.key, "CA": self.authority.cert, "VERIFY_CLIENTS": "true"}
        tls = {f"RECADO_TLS_{key}": str(value) for key, value in names.items()}
        cluster = {"RECADO_NODE_URL": f"https://localhost:{port}", "RECADO_CLUSTER_SECRET": "the same for both"}
        return Server(self.directory, "--port", str(port), REDIS_URL=redis_url, **tls, **cluster)

    def end(self) -> None:
        """End both nodes."""
        for node in self.nodes:
            node.end()
        shutil.rmtree(self.directory)


@pytest.fixture
def machines(tenant: Tenant) -> Iterator[Machines]:
    """Two nodes of the test's own."""
    with running_valkey() as valkey:
        both = Machines(tenant, valkey.url)
        for key in valkey.client.keys("recado:place:*"):
            Path(json.loads(valkey.client.get(key) or b"")["socket"]).unlink()
        yield both
        both.end()


def test_requests_are_passed_on_over_tls(machines: Machines, tenant: Tenant) -> None:
    """A session of one node goes on over the other: polls, and a WebSocket that takes it over. Between the nodes each
    shows a certificate, as any client must."""
    context = machines.authority.client_context(machines.client)
    user = tenant.user()
    one, two = machines.nodes
    with httpx.Client(verify=context, timeout=20) as http:
        query = {"EIO": "4", "transport": "polling"}
        opened = http.get(f"{one.url}/socket.io/", params=query)
        query["sid"] = json.loads(opened.text[1:])["sid"]
        packet = "40/alpha," + json.dumps({"token": user.token, "deviceId": "d"})
        assert http.post(f"{two.url}/socket.io/", params=query, content=packet).text == "ok"
        text = ""
        while "_settings" not in text:
            text += http.get(f"{two.url}/socket.io/", params=query).text
        address = f"{two.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket&sid={query['sid']}"
        with connect(address, ssl=context, compression=None) as upgraded:
            upgraded.send("2probe")
            assert upgraded.recv(30) == "3probe"
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{two.url}/healthcheck", verify=machines.authority.client_context())
