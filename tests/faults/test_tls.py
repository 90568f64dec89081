"""A stranger that begins many TLS handshakes and ends none: everybody else is served meanwhile."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import httpx
import pytest

from tests.support.certificates import Authority
from tests.support.deployment import Deployment
from tests.support.metrics import Figures
from tests.support.waiting import eventually

#: The default of `joining_per_address`.
_SHARE = 1000
#: Generous, for a machine under load: without turns a thousand signatures of RSA hold everybody up for a second.
_SLOW_SECONDS = 0.5


@pytest.fixture
def files() -> Iterator[None]:
    """As many open files as this process may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Strangers:
    """Connections of 127.0.0.1 that have sent the first message of a handshake, and do no more. `end` closes them."""

    def __init__(self, authority: Authority, port: int) -> None:
        self._port = port
        self._sockets: list[socket.socket] = []
        outgoing = ssl.MemoryBIO()
        client = authority.client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        self._hello = outgoing.read()

    def come(self, count: int) -> None:
        """More of them."""
        for _ in range(count):
            stranger = socket.create_connection(("127.0.0.1", self._port), timeout=20)
            self._sockets.append(stranger)
            with contextlib.suppress(OSError):
                stranger.sendall(self._hello)

    def end(self) -> None:
        """Leave."""
        for stranger in self._sockets:
            stranger.close()


class Guest:
    """A client of another address. `end` closes its connection."""

    def __init__(self, authority: Authority, port: int) -> None:
        began = time.perf_counter()
        plain = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=("127.0.0.2", 0))
        self._socket = authority.client_context().wrap_socket(plain, server_hostname="127.0.0.1")
        self.ask()
        self.seconds = time.perf_counter() - began

    def ask(self) -> float:
        """The time of an answer."""
        began = time.perf_counter()
        self._socket.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while not answer.endswith(b"ok"):
            part = self._socket.recv(4096)
            assert part, "the server has closed the connection"
            answer += part
        return time.perf_counter() - began

    def end(self) -> None:
        """Leave."""
        self._socket.close()


@pytest.mark.alone
@pytest.mark.usefixtures("files")
def test_a_flood_of_handshakes(tmp_path: Path, is_long: bool, tell: Callable[[str], None]) -> None:
    """While one address has begun thousands of handshakes, clients of another address get in and are answered, and the
    flood's own further connections are closed."""
    authority = Authority(tmp_path)
    pair = authority.sign("server", is_rsa=True)
    deployment = Deployment({}, {"tls": {"cert": str(pair.cert), "key": str(pair.key)}})
    port = httpx.URL(deployment.url).port or 0
    strangers = Strangers(authority, port)
    try:
        deployment.trust(authority.client_context())
        before = Figures(deployment)("process_resident_memory_bytes")
        guest = Guest(authority, port)
        count = 10_000 if is_long else 2_000
        answers, arrivals = [], []
        for _ in range(count // 100):
            strangers.come(100)
            answers.append(guest.ask())
            newcomer = Guest(authority, port)
            arrivals.append(newcomer.seconds)
            newcomer.end()

        def closed() -> float:
            return Figures(deployment)("recado_refused_total", reason="too many handshakes")

        guest.end()
        strangers.end()
        # Its own requests come from the address of the flood.
        eventually(lambda: _answers(deployment), "the address to be free again", 60)
        assert closed() >= count - 2 * _SHARE
        grown = Figures(deployment)("process_resident_memory_bytes") - before
        tell(
            f"{count} handshakes: answers in {1000 * median(answers):.1f} ms ({1000 * max(answers):.1f} at most), "
            f"newcomers in after {1000 * median(arrivals):.1f} ms ({1000 * max(arrivals):.1f} at most), "
            f"{grown / 1e6:.0f} MB more"
        )
        assert median(answers) < _SLOW_SECONDS
        assert median(arrivals) < _SLOW_SECONDS
        assert grown < 200e6
    finally:
        strangers.end()
        deployment.end()


def _answers(deployment: Deployment) -> bool:
    try:
        return deployment.get("/healthcheck").text == "ok"
    except httpx.HTTPError:
        return False
