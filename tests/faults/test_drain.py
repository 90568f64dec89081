"""The end of a node: it tells balancers first, then its clients one after the
other, and loses none of their messages."""

from __future__ import annotations

import contextlib
import itertools
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.clients import ACK_NONE, ALL_KINDS, NODE_KINDS
from tests.support.connector import Connector, Drivers, numbers
from tests.support.deployment import Deployment
from tests.support.raw import RawPolling, RawSocket
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

DRAIN_SECONDS = 2.0
CROWD = 40


@pytest.fixture
def deployment(tenant: Tenant) -> Iterator[Deployment]:
    """A server of the test's own with a short drain."""
    server = Deployment(contract_sites(tenant), {"drain_timeout": DRAIN_SECONDS})
    yield server
    server.end()


@pytest.fixture
def patient(tenant: Tenant) -> Iterator[Deployment]:
    """A server of the test's own with a long drain."""
    server = Deployment(contract_sites(tenant), {"drain_timeout": 60})
    yield server
    server.end()


class Crowd:
    """WebSocket sessions that record when they are closed. Live for one test; `end` closes the remaining ones."""

    def __init__(self, url: str, count: int = CROWD) -> None:
        """Open all sessions."""
        self.closed_at: list[float] = []
        self._stack = contextlib.ExitStack()
        self._pool = ThreadPoolExecutor(count)
        self._sockets = [self._stack.enter_context(RawSocket(url, 4)) for _ in range(count)]
        self._watches = [self._pool.submit(self._watch, one) for one in self._sockets]

    def wait(self) -> list[float]:
        """The moments at which the sessions were closed, in order, once all are closed."""
        for watch in self._watches:
            watch.result(60)
        return sorted(self.closed_at)

    def end(self) -> None:
        """Close the sessions."""
        self._stack.close()
        self._pool.shutdown()

    def _watch(self, one: RawSocket) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                one.receive(90)
        self.closed_at.append(time.monotonic())


@pytest.fixture
def crowd(deployment: Deployment) -> Iterator[Crowd]:
    """Sessions of `deployment`."""
    crowd = Crowd(deployment.url)
    yield crowd
    crowd.end()


def begin_to_end(deployment: Deployment, number: signal.Signals = signal.SIGTERM) -> float:
    """Send the signal and wait until the node logs that it drains; return the moment of the signal."""
    began = time.monotonic()
    deployment.server.signal(number)
    eventually(lambda: any(line.get("event") == "draining" for line in deployment.server.log()), "the drain")
    return began


def test_serves_while_it_drains(deployment: Deployment, crowd: Crowd, tenant: Tenant) -> None:
    """From SIGTERM on the node is not ready, also on new connections; /send goes
    on; new clients are refused with 503."""
    begin_to_end(deployment)
    ready = httpx.get(f"{deployment.url}/readyz")
    assert (ready.status_code, ready.json()["checks"]["accepting"]) == (503, False)
    # A client with a kept-alive connection is asked to close it; the next one goes to another node.
    assert ready.headers["connection"] == "close"
    deployment.send("alpha", tenant.user().room, "event")
    polling = RawPolling(deployment, 4).poll()
    assert (polling.status_code, polling.headers["retry-after"]) == (503, "1")
    assert polling.json() == {"code": 3, "message": "Server is shutting down"}
    with pytest.raises(InvalidStatus) as refusal, RawSocket(deployment.url, 4):
        pass
    assert refusal.value.response.status_code == 503
    assert refusal.value.response.headers["retry-after"] == "1"
    assert not crowd.closed_at[CROWD // 2 :], "the drain was over before this test was"
    crowd.wait()
    assert deployment.server.wait() == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{deployment.url}/readyz")


def test_connections_leave_evenly(deployment: Deployment, crowd: Crowd) -> None:
    """Connections are told to leave in even steps over drain_timeout, the first at once; then the node ends with 0."""
    began = begin_to_end(deployment)
    moments = [moment - began for moment in crowd.wait()]
    assert moments[0] < 1
    assert DRAIN_SECONDS * 0.8 < moments[-1] < DRAIN_SECONDS + 1.5
    # Two leave every 0.1 s; on a busy machine a few steps may coincide.
    assert max(sum(start <= moment < start + 0.5 for moment in moments) for start in moments) <= CROWD / 2
    assert deployment.server.wait() == 0
    assert time.monotonic() - began < DRAIN_SECONDS + 2.5


def test_few_connections_take_the_whole_time(deployment: Deployment) -> None:
    """Ten connections leave one after the other over all of drain_timeout, not one every 0.1 s."""
    crowd = Crowd(deployment.url, 10)
    began = begin_to_end(deployment)
    moments = [moment - began for moment in crowd.wait()]
    # One is told every 0.2 s, and is closed 0.25 s later.
    assert 1.5 < moments[-1] < DRAIN_SECONDS + 1.5
    # On a busy machine two of them may coincide, and once even more.
    assert max(sum(start <= moment < start + 0.2 for moment in moments) for start in moments) <= 4
    assert moments[7] - moments[2] > 0.5
    assert deployment.server.wait() == 0
    crowd.end()


def test_nobody_connected(patient: Deployment) -> None:
    """A node without connections ends at once."""
    began = time.monotonic()
    assert patient.stop() == 0
    assert time.monotonic() - began < 20


def test_interrupt_does_not_spread(patient: Deployment) -> None:
    """On Ctrl-C all connections are told to leave at once."""
    crowd = Crowd(patient.url)
    began = begin_to_end(patient, signal.SIGINT)
    moments = crowd.wait()
    # Spread over the drain, they would need a minute.
    assert moments[-1] - moments[0] < 15
    assert patient.server.wait() == 0
    assert time.monotonic() - began < 20
    crowd.end()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal(patient: Deployment, second: signal.Signals) -> None:
    """A second signal ends a drain at once, also with exit status 0."""
    crowd = Crowd(patient.url)
    began = begin_to_end(patient)
    patient.server.signal(second)
    assert patient.server.wait() == 0
    assert time.monotonic() - began < 20
    crowd.wait()
    crowd.end()


@pytest.mark.parametrize("version", [4, 3])
def test_polling_client_fetches_its_end(deployment: Deployment, version: int) -> None:
    """A client that is between two polls when it is told to leave gets the close packet in its next poll."""
    session = RawPolling(deployment, version)
    session.poll()
    if version == 3:
        session.poll()
    begin_to_end(deployment)
    # (1.x and 2.x expect lengths before packets.)
    assert session.poll().content in (b"1", b"1:1", b"\x00\x01\xff1")
    assert deployment.server.wait() == 0


def test_client_that_is_gone_does_not_hold_it_up(deployment: Deployment) -> None:
    """Sessions whose clients have vanished, or never read, delay the end by no more than a moment."""
    RawPolling(deployment, 4).poll()
    host, port = deployment.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as silent:
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        upgrade = f"Host: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n"
        silent.sendall(f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n{upgrade}".encode())
        assert b"101" in silent.recv(100)
        began = begin_to_end(deployment)
        assert deployment.server.wait() == 0
        # The second session is told after half of that time.
        assert time.monotonic() - began < DRAIN_SECONDS / 2 + 20


def test_end_is_reported_once(deployment: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """Each user that was connected when its node ends is reported as disconnected once, with every kind of client."""
    connector = Connector(deployment, drivers)
    users = {kind: tenant.user() for kind in ALL_KINDS}
    for kind, user in users.items():
        connector("alpha", user, kind)
        tenant.wait_for_update(user.token, "last_connected")
    assert deployment.stop() == 0
    for kind, user in users.items():
        reported = [list(request.body["user"]) for request in tenant.requests_of(user.token, "PUT")]
        assert reported == [["last_connected"], ["last_disconnected"]], kind
    connector.close()


def test_acks_in_flight(deployment: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """Under load clients over WebSocket get each message once, although their node ends meanwhile."""
    connector = Connector(deployment, drivers)
    room = tenant.unique("room")
    users = [tenant.user(room) for _ in range(10)]
    clients = [connector("alpha", user) for user in users]
    accepted: list[int] = []

    def send() -> None:
        with contextlib.suppress(httpx.TransportError):
            for number in itertools.count():
                body: dict[str, Any] = {"rooms": [room], "event": "n", "args": [number]}
                if deployment.try_send("alpha", body).status_code != 200:
                    return
                accepted.append(number)

    sender = threading.Thread(target=send)
    sender.start()
    eventually(lambda: len(accepted) > 100, "messages on their way")
    assert deployment.stop() == 0
    sender.join()
    before = [numbers(client) for client in clients if client.wait_disconnected()]
    deployment.start()
    for user, seen in zip(users, before, strict=True):
        again = connector("alpha", user)
        # The messages sent over the whole drain may be more than one batch.
        missed = len(accepted) - len(seen)
        eventually(lambda again=again, missed=missed: len(numbers(again)) >= missed, "the rest")  # type: ignore[misc]
        seen += numbers(again)
        assert seen == list(range(len(seen)))
        assert len(seen) >= len(accepted)
    connector.close()


def test_replay_after_a_drain(deployment: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """Messages that a client had not acknowledged when its node ended are sent again, with every kind of client."""
    connector = Connector(deployment, drivers)
    users = {kind: tenant.user() for kind in NODE_KINDS}
    for kind, user in users.items():
        client = connector("alpha", user, kind, ack=ACK_NONE)
        deployment.send("alpha", user.room, "kept", user.id)
        client.wait_event("kept")
    assert deployment.stop() == 0
    deployment.start()
    for kind, user in users.items():
        assert connector("alpha", user, kind).wait_event("_batch").args == [[["kept", user.id]]]
    connector.close()
