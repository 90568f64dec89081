"""The port: taken or free, for one process or for several."""

from __future__ import annotations

import socket
import ssl

import pytest

from app.errors import ConfigError
from app.node.port import SharedPort, listen, own_port_of


def test_port_in_use() -> None:
    """A port that is taken is a ConfigError that names the setting and the address, shared or not."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port: expected a free port to listen on, 127.0.0.1:{port} is not"):
            listen("127.0.0.1", port)
        with pytest.raises(ConfigError, match=f"port: expected a free port to listen on, 127.0.0.1:{port} is not"):
            SharedPort("127.0.0.1", port)
        for taker in (listen, SharedPort):
            with pytest.raises(ConfigError, match=f"mounts: expected a free port to listen on, 127.0.0.1:{port} is"):
                taker("127.0.0.1", port, "mounts")


def test_port_zero_is_any_free_port() -> None:
    """Port 0 picks a free port."""
    with listen("127.0.0.1", 0) as listening, SharedPort("127.0.0.1", 0) as shared:
        assert listening.getsockname()[1] > 0
        assert shared.number > 0


def test_shared_port_is_nobody_elses() -> None:
    """A second server does not get the port of workers that listen, although SO_REUSEPORT would allow it."""
    with SharedPort("127.0.0.1", 0) as shared, shared.open() as worker:
        worker.listen()
        with pytest.raises(ConfigError):
            SharedPort("127.0.0.1", shared.number)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_reach_every_process_that_listens(host: str) -> None:
    """Each socket of a shared port gets connections once it listens. The port stays held while no socket listens."""
    with SharedPort(host, 0) as shared:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, shared.number))
        with shared.open() as first, shared.open() as second, shared.open():
            clients = []
            for worker in (first, second):
                worker.listen(200)
                worker.setblocking(False)
            try:
                clients += [socket.create_connection((host, shared.number)) for _ in range(100)]
                accepted = [accept_all(worker) for worker in (first, second)]
            finally:
                for client in clients:
                    client.close()
        assert sum(accepted) == 100
        # The kernel distributes by a hash of the addresses: fewer than 20 of 100 would happen once in a billion runs.
        assert min(accepted) >= 20


def test_accepted_sockets_are_probed() -> None:
    """The kernel probes accepted connections: a peer that vanished is found, with one process and with several."""
    with SharedPort("127.0.0.1", 0) as shared, shared.open() as worker, listen("127.0.0.1", 0) as single:
        worker.listen()
        for listening in (worker, single):
            with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


def accept_all(listening: socket.socket) -> int:
    """Accepts all waiting connections and returns their number."""
    count = 0
    while True:
        try:
            listening.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


@pytest.mark.parametrize(
    ("host", "reached"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::", "::1"), ("::1", "::1")]
)
def test_a_port_is_reached_from_its_own_machine(host: str, reached: str) -> None:
    """A socket on every address is reached on the loopback, another on its own address; with the given context."""
    with listen(host, 0) as listening:
        context = ssl.create_default_context()
        target = own_port_of(listening, context)
        assert (target.host, target.port) == (reached, listening.getsockname()[1])
        assert target.tls is context
        assert own_port_of(listening, None).tls is None
