"""The node that answers a request: this one, the owner of its session, or none."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from app.socketio import session_router
from app.socketio.node_signature import Signer
from app.socketio.ports import Place
from app.socketio.session_router import NodeRouting, SessionRouter
from app.transport.peer_socket import PASSED_ON
from app.transport.splice import FarSide
from app.transport.websocket import EXTENSION
from tests.support.waiting import until

HERE, NEAR, FAR = "aa", "bb", "cc"
SECRET = "a secret"
UNKNOWN = b'{"code":1,"message":"Session ID unknown"}'
CLIENT = ("192.0.2.1", 5000)


class World:
    """All around a router: this node's sessions, the other nodes, where they are. Lives for one test."""

    def __init__(self) -> None:
        """One node near, one on another machine."""
        self.places = {NEAR: Place(socket="/near"), FAR: Place(url="http://far")}
        self.forgotten: list[str] = []
        #: The scopes that this node's sessions got; the places and scopes that other nodes got.
        self.own: list[Any] = []
        self.passed: list[tuple[Place, Any]] = []
        self.is_reachable = True
        #: Set while others answer at once.
        self.gate = asyncio.Event()
        self.gate.set()
        self.told: list[tuple[Place, Any]] = []
        self.released: list[str] = []
        self.counts: Counter[str] = Counter()
        self.sent: list[Any] = []

    def router(self, secret: str | None = SECRET) -> SessionRouter:
        """The router of the node HERE."""
        return SessionRouter(self, NodeRouting(HERE, self, self, secret, self.counts))

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        """As `Sessions`."""
        self.own.append(scope)

    def release_poll(self, sid: str) -> None:
        """As `Sessions`."""
        self.released.append(sid)

    async def find(self, node: str) -> Place | None:
        """As `NodePlaces`."""
        return self.places.get(node)

    def forget(self, node: str) -> None:
        """As `NodePlaces`."""
        self.forgotten.append(node)

    async def pass_on(self, place: Place, scope: Any, receive: Any, send: Any) -> bool:
        """As `Peers`."""
        self.passed.append((place, scope))
        await self.gate.wait()
        return self.is_reachable

    async def tell(self, place: Place, scope: Any) -> None:
        """As `Peers`."""
        self.told.append((place, scope))

    async def send(self, event: Any) -> None:
        """To the client."""
        self.sent.append(event)


class Upgrade:
    """A WebSocket's request; lives for one test."""

    def __init__(self) -> None:
        """Nothing is answered yet."""
        self.refusals: list[tuple[int, bytes]] = []

    def reject(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Note it."""
        self.refusals.append((status, body))


@pytest.fixture
def world() -> World:
    """A router's surroundings."""
    return World()


def request(sid: str | None, *headers: tuple[bytes, bytes], method: str = "GET", **more: Any) -> dict[str, Any]:
    """A scope."""
    query = b"EIO=4&transport=polling" + (f"&sid={sid}".encode() if sid is not None else b"")
    return {
        "type": "http",
        "method": method,
        "raw_path": b"/socket.io/",
        "query_string": query,
        "headers": list(headers),
        "client": CLIENT,
        "state": {},
        **more,
    }


def signed(scope: dict[str, Any]) -> dict[str, Any]:
    """The same request, signed by another node."""
    target = scope["raw_path"] + b"?" + scope["query_string"]
    return {**scope, "headers": [*scope["headers"], Signer(SECRET).sign(scope["method"], target, scope["headers"])]}


async def answer(world: World, scope: dict[str, Any], secret: str | None = SECRET) -> None:
    """Route one request."""
    await world.router(secret)(scope, None, world.send)


@pytest.mark.parametrize(
    "sid", [None, f"{HERE}.x", "x", "", ".x", "zz.x", f"{HERE}%2Ex", "../../x", "a" * 33 + ".x", f"{NEAR}x", "%ff.x"]
)
async def test_own_and_nobodys_sessions_are_served_here(world: World, sid: str | None) -> None:
    """A handshake, a session of this node and an id that names no node are this node's to answer."""
    await answer(world, request(sid))
    assert (len(world.own), world.passed, world.counts) == (1, [], Counter())


async def test_preflights_are_answered_anywhere(world: World) -> None:
    """OPTIONS asks about the server, not about a session."""
    await answer(world, request(f"{NEAR}.x", method="OPTIONS"))
    assert (len(world.own), world.passed) == (1, [])


async def test_session_of_a_node_on_this_machine(world: World) -> None:
    """The request goes over the socket, with the client's address and no secret; a client's own marks are removed."""
    forged = [(b"x-recado-client", b"10.0.0.1 1"), (b"x-other", b"1")]
    await answer(world, request(f"{NEAR}.x", *forged), secret=None)
    [(place, scope)] = world.passed
    assert place == Place(socket="/near")
    assert scope["headers"] == [(b"x-other", b"1"), (b"x-recado-client", b"192.0.2.1 5000")]
    assert (world.own, world.counts) == ([], Counter({"passed on": 1}))


async def test_session_of_a_node_on_another_machine(world: World) -> None:
    """The request goes to the URL, signed; the secret stays here."""
    await answer(world, request(f"{FAR}.x"))
    [(place, scope)] = world.passed
    assert place == Place(url="http://far")
    [address, (name, signature)] = scope["headers"]
    assert (address, name) == ((b"x-recado-client", b"192.0.2.1 5000"), b"x-recado-signature")
    assert SECRET.encode() not in signature


async def test_no_way_to_another_machine(world: World) -> None:
    """Without a secret of our own, or a URL of theirs, this node says that it does not know the session."""
    await answer(world, request(f"{FAR}.x"), secret=None)
    world.places[FAR] = Place()
    await answer(world, request(f"{FAR}.x"))
    await answer(world, request("dd.x"))
    assert (len(world.own), world.passed, world.counts) == (3, [], Counter({"owner unknown": 3}))


async def test_owner_that_does_not_answer(world: World) -> None:
    """The owner is forgotten, and this node answers that it does not know the session."""
    world.is_reachable = False
    await answer(world, request(f"{NEAR}.x"))
    assert (len(world.own), world.forgotten, world.counts) == (1, [NEAR], Counter({"owner unreachable": 1}))


async def test_passed_within_the_machine_ends_here(world: World) -> None:
    """A request that came over this node's socket is never passed on again; it brings the client's address."""
    scope = request(f"{NEAR}.x", (b"x-recado-client", b"2001:db8::1 5000"), state={PASSED_ON: True}, client=None)
    await answer(world, scope)
    assert (len(world.own), world.passed) == (1, [])
    assert world.own[0]["client"] == ("2001:db8::1", 5000)


async def test_passed_between_machines_goes_on_within_one_alone(world: World) -> None:
    """A request that came signed may go to another process of this machine, never to another machine."""
    for sid in (f"{HERE}.x", f"{NEAR}.x", f"{FAR}.x"):
        await answer(world, signed(request(sid, (b"x-recado-client", b"192.0.2.7 1"), client=("10.0.0.2", 1))))
    assert [scope["client"] for scope in world.own] == [("192.0.2.7", 1)] * 2
    [(place, scope)] = world.passed
    assert place == Place(socket="/near")
    assert scope["headers"] == [(b"x-recado-client", b"192.0.2.7 1")]


@pytest.mark.parametrize("secret", [SECRET, None])
async def test_wrong_signature(world: World, secret: str | None) -> None:
    """A client that poses as a node learns nothing about any session; nothing is passed on."""
    for sid in (f"{HERE}.x", f"{NEAR}.x"):
        await answer(world, request(sid, (b"x-recado-signature", b"guess")), secret=secret)
        assert (world.sent[0]["status"], world.sent[1]["body"]) == (400, UNKNOWN)
        world.sent.clear()
        upgrade = Upgrade()
        extensions = {EXTENSION: {"connection": upgrade}}
        await answer(world, request(sid, (b"x-recado-signature", b"guess"), type="websocket", extensions=extensions))
        assert upgrade.refusals == [(400, UNKNOWN)]
    assert (world.own, world.passed, world.counts) == ([], [], Counter({"refused": 4}))


async def test_repeated_signature(world: World) -> None:
    """A request that another node has signed counts once; a repetition of it is refused."""
    router = world.router()
    scope = signed(request(f"{HERE}.x"))
    for _ in range(4):
        await router({**scope}, None, world.send)
    assert (len(world.own), world.counts) == (1, Counter({"refused": 3}))


async def test_secret_of_an_older_version(world: World) -> None:
    """A node of an older version sends the secret itself: it proves nothing here, and is not passed on."""
    await answer(world, request(f"{HERE}.x", (b"x-recado-secret", SECRET.encode())))
    await answer(world, request(f"{NEAR}.x", (b"x-recado-secret", SECRET.encode())))
    assert [scope["client"] for scope in world.own] == [CLIENT]
    assert world.passed[0][1]["headers"] == [(b"x-recado-client", b"192.0.2.1 5000")]


BAD_ADDRESSES = (b"", b"192.0.2.1", b"192.0.2.1 x", b" 1", b"h \xb2", b"h " + b"1" * 400, b"h" * 999 + b" 1")


@pytest.mark.parametrize("told", BAD_ADDRESSES)
async def test_address_that_is_none(world: World, told: bytes) -> None:
    """A client with an unknown address has none."""
    await answer(world, request(f"{HERE}.x", (b"x-recado-client", told), state={PASSED_ON: True}))
    assert world.own[0]["client"] is None


async def test_upgrade_is_joined(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A WebSocket's socket is joined to the owner's, whose request has target, headers and address."""
    joined: list[Any] = []

    async def splice(*what: Any) -> bool:
        joined.append(what)
        return True

    monkeypatch.setattr(session_router, "splice", splice)
    upgrade = Upgrade()
    extensions = {EXTENSION: {"connection": upgrade}}
    await answer(world, request(f"{NEAR}.x", (b"upgrade", b"websocket"), type="websocket", extensions=extensions))
    await answer(world, request(f"{FAR}.x", type="websocket", extensions=extensions, client=None))
    target = b"GET /socket.io/?EIO=4&transport=polling&sid=%s.x HTTP/1.1\r\n"
    near = target % b"bb" + b"upgrade: websocket\r\nx-recado-client: 192.0.2.1 5000\r\n\r\n"
    assert joined[0] == (upgrade, FarSide("/near"), near)
    assert joined[1][:2] == (upgrade, FarSide(url="http://far"))
    assert joined[1][2].startswith(target % b"cc" + b"x-recado-signature: ")
    assert (world.own, world.passed) == ([], [])


async def test_polls_that_wait_at_others_are_released(world: World) -> None:
    """At the end the owner of each waiting poll, of later ones too, is asked once to answer it; answered polls, and
    other requests, are left alone."""
    router = world.router()
    await router(request(f"{NEAR}.answered"), None, world.send)
    world.gate.clear()

    def ask(sid: str, **more: Any) -> asyncio.Task[None]:
        return asyncio.create_task(router(request(sid, (b"content-length", b"0"), **more), None, world.send))

    asked = [ask(f"{NEAR}.x"), ask(f"{FAR}.x"), ask(f"{NEAR}.post", method="POST")]
    await until(lambda: len(world.passed) == 4, "the requests to be passed on")
    release = asyncio.create_task(router.release_polls())
    await until(lambda: len(world.told) == 2, "the first to be released")
    asked.append(ask(f"{NEAR}.late"))
    await until(lambda: len(world.told) == 3, "the late one to be released")
    release.cancel()
    world.gate.set()
    await asyncio.gather(*asked)
    asks = {scope["query_string"].partition(b"sid=")[2]: (place, scope) for place, scope in world.told}
    assert set(asks) == {b"bb.x", b"cc.x", b"bb.late"}
    assert {scope["method"] for _, scope in world.told} == {"DELETE"}
    assert asks[b"bb.x"][0] == Place(socket="/near")
    assert asks[b"bb.x"][1]["headers"] == [(b"x-recado-release", b"1")]
    assert [name for name, _ in asks[b"cc.x"][1]["headers"]] == [b"x-recado-release", b"x-recado-signature"]


RELEASE = (b"x-recado-release", b"1")


async def test_owner_releases(world: World) -> None:
    """An owner that another node asks has the session's poll answered, whether by its socket or signed."""
    await answer(world, request(f"{HERE}.x", RELEASE, method="DELETE", state={PASSED_ON: True}))
    await answer(world, signed(request(f"{HERE}.y", RELEASE, method="DELETE")))
    assert (world.released, world.own, world.passed) == ([f"{HERE}.x", f"{HERE}.y"], [], [])
    assert [event["status"] for event in world.sent if "status" in event] == [200, 200]


async def test_release_finds_another_process(world: World) -> None:
    """A release that came to a machine's port goes on to the process that owns the session."""
    await answer(world, signed(request(f"{NEAR}.x", RELEASE, method="DELETE", client=None)))
    [(_, scope)] = world.passed
    assert (scope["headers"], world.released) == ([RELEASE], [])


async def test_client_releases_nothing(world: World) -> None:
    """A client that asks for it has an ordinary request, here and when it is passed on; a wrong secret is refused."""
    await answer(world, request(f"{HERE}.x", RELEASE, method="DELETE"))
    await answer(world, request(f"{NEAR}.x", RELEASE, method="DELETE"))
    await answer(world, request(f"{HERE}.x", RELEASE, (b"x-recado-signature", b"guess"), method="DELETE"))
    assert (world.released, len(world.own)) == ([], 1)
    assert RELEASE not in world.passed[0][1]["headers"]
    assert world.counts["refused"] == 1


def test_a_websocket_that_opens_a_session_is_served_at_once(world: World) -> None:
    """A session's id may name another node, which is asked first."""
    router = world.router()
    assert router.serves_at_once(b"EIO=4&transport=websocket")
    assert not router.serves_at_once(b"EIO=4&transport=websocket&sid=a.b")
