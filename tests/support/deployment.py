"""One or several nodes with their Valkey; several nodes are behind a balancer."""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from tests.support.balancer import Balancer
from tests.support.endpoint import Endpoint
from tests.support.ports import free_port
from tests.support.processes import descendants, kill
from tests.support.server import ForkedServer, Server
from tests.support.valkey import Valkey

_CONFIG = {"drain_timeout": 0.5}
"""The default configuration of the tests' nodes: nodes that a test stops end soon."""


class Node(Endpoint):
    """One `python -m app serve` in a deployment, over all its restarts on one port; the deployment ends it."""

    def __init__(
        self, directory: Path, sites: Mapping[str, Mapping[str, Any]], environment: Mapping[str, str], *arguments: str
    ) -> None:
        """Start the server with the configuration in `directory`."""
        super().__init__(sites)
        self._directory = directory
        self._environment = environment
        self._arguments = arguments
        self._servers: list[Server] = []
        self._orphans: list[int] = []
        self._port = free_port()
        #: Whether a balancer gives it new requests.
        self.is_listed = False
        self.start()

    @property
    def server(self) -> Server:
        """The process; after restarts, the latest one."""
        return self._servers[-1]

    @property
    def url(self) -> str:
        """The URL on which the node listens."""
        return self.server.url

    def start(self) -> None:
        """Start the server, or start it again on the same configuration, data and port."""
        arguments = ["--port", str(self._port), "--config", "config.yml", "--sites", "sites.yml", *self._arguments]
        self._servers.append(ForkedServer(self._directory, *arguments, **self._environment))
        self.is_listed = True

    def stop(self, timeout_seconds: float = 30) -> int:
        """Ask the server to end as an operator does (SIGTERM) and return its exit status."""
        self.is_listed = False
        self.server.signal(signal.SIGTERM)
        return self.server.wait(timeout_seconds)

    def kill(self) -> list[int]:
        """Kill only the server process, as a crash does, and return the
        processes it leaves behind; `end` kills those."""
        self.is_listed = False
        left = descendants(self.server.pid)
        self._orphans += left
        self.server.signal(signal.SIGKILL)
        self.server.wait()
        return left

    def suspend(self) -> None:
        """Freeze the process: its connections stay open, and nothing is answered."""
        self.is_listed = False
        self.server.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on."""
        self.server.signal(signal.SIGCONT)
        self.is_listed = True

    def end(self) -> None:
        """End every process."""
        for server in self._servers:
            server.end()
        for pid in self._orphans:
            kill(pid)
        self.close_http()


class Deployment(Endpoint):
    """Nodes on one Valkey in a directory of their own. The code that makes it calls `end`, which removes everything.

    Several nodes are behind a balancer, which gives each request to a random one.
    """

    def __init__(
        self,
        sites: Mapping[str, Mapping[str, Any]],
        config: Mapping[str, Any] | None = None,
        is_embedded: bool = False,
        environment: Mapping[str, str] | None = None,
        nodes: int = 1,
    ) -> None:
        """Write the configuration, start Valkey and the nodes. Valkey is not started when the server runs its own, or
        when `environment` names one."""
        super().__init__(sites)
        # The path of a unix socket may have 107 characters, so the directory's path is short.
        self.directory = Path(tempfile.mkdtemp(prefix="recado-"))
        self.valkey: Valkey | None = None
        self.nodes: list[Node] = []
        self.balancer: Balancer | None = None
        self._environment = dict(environment or {})
        (self.directory / "sites.yml").write_text(yaml.safe_dump({name: dict(keys) for name, keys in sites.items()}))
        (self.directory / "config.yml").write_text(yaml.safe_dump({"production": {**_CONFIG, **(config or {})}}))
        try:
            if not is_embedded and "REDIS_URL" not in self._environment:
                (self.directory / "valkey").mkdir()
                self.valkey = Valkey(self.directory / "valkey")
            with ThreadPoolExecutor(nodes) as pool:
                list(pool.map(lambda _: self.add_node(), range(nodes)))
        except BaseException:
            self.end()
            raise
        if nodes > 1:
            self.balance(random.Random())

    @property
    def redis(self) -> Valkey:
        """The Valkey beside the nodes; an embedded Valkey belongs to the server and is not available here."""
        assert self.valkey, "this deployment has an embedded Valkey"
        return self.valkey

    @property
    def url(self) -> str:
        """The URL for requests: the balancer's, or that of the only node."""
        return self.balancer.url if self.balancer else self.nodes[0].url

    def add_node(self, **environment: str) -> Node:
        """Start one more node; `environment` is its own, for instance with another address of Redis."""
        environment = self._environment | ({"REDIS_URL": self.valkey.url} if self.valkey else {}) | environment
        arguments = [] if self.valkey else ["--data-dir", str(self.directory / "data")]
        node = Node(self.directory, self.sites, environment, *arguments)
        self.nodes.append(node)
        return node

    def balance(self, chance: random.Random) -> None:
        """From now on a balancer picks a random node for each request."""
        self.balancer = Balancer(self._listed_urls, chance)

    def end(self) -> None:
        """End every process and remove the directory."""
        if self.balancer:
            self.balancer.end()
        with ThreadPoolExecutor() as pool:
            list(pool.map(Node.end, self.nodes))
        if self.valkey:
            self.valkey.end()
        self.close_http()
        shutil.rmtree(self.directory, ignore_errors=True)

    # The life of a deployment with a single node

    @property
    def server(self) -> Server:
        """The first node's process."""
        return self.nodes[0].server

    def start(self) -> None:
        """Start the first node again."""
        self.nodes[0].start()

    def stop(self) -> int:
        """End the first node as an operator does."""
        return self.nodes[0].stop()

    def kill(self) -> list[int]:
        """Kill the first node."""
        return self.nodes[0].kill()

    def _listed_urls(self) -> Sequence[str]:
        return [node.url for node in self.nodes if node.is_listed]
