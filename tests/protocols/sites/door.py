"""The application of the sites behind a Socket.IO server on one node. The test plays the tenant's backend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from app.clock import now_ms
from app.config.settings import JwtIssuer, Site, SiteLimits
from app.errors import AuthRefused
from app.protocols.sites.admission import Admission
from app.protocols.sites.application import SitesApplication
from app.protocols.sites.pusher.settings import PusherApp
from app.protocols.sites.settings import ResumeTicket
from app.protocols.sites.token_gate import TokenGate
from app.protocols.sites.token_keys import KeySet
from app.socketio.namespace_router import NamespaceRouter
from app.socketio.socket_server import SocketServer
from tests.socketio.socket_case import Client
from tests.support.issuer import ISSUER, TOKEN_SECRET
from tests.support.store import StoreNode, make_site
from tests.support.valkey import Valkey
from tests.support.waiting import until

TOKEN = "t-12345-secret"
USERS = "http://127.0.0.1/users/:id"
SITE = make_site("site", device_ttl_seconds=77, update_user_url=USERS, public_channel="public")
PLAIN = make_site("plain", user_room_prefix=None, update_user_url=USERS)
NARROW = make_site("narrow", origins=("https://shop.example.com",))
QUIET = make_site("quiet")
BACK = make_site("back", resume_ticket=ResumeTicket(ttl_seconds=60), update_user_url=USERS)
BOUND = make_site(
    "bound",
    limits=SiteLimits(connections=3, connections_per_address=2, connections_per_user=1, rooms_per_connection=2),
    public_channel="public",
)
_SECRET = JwtIssuer(issuer=ISSUER, secrets=(TOKEN_SECRET,))
#: Sites that check tokens by themselves: alone, beside authUrl with tickets, without queues, with the keys of a set.
ALONE = make_site("alone", auth_url=None, jwt=(_SECRET,))
BESIDE = make_site("beside", jwt=(_SECRET,), resume_ticket=ResumeTicket(ttl_seconds=600), update_user_url=USERS)
OPEN = make_site("open", auth_url=None, jwt=(_SECRET,), user_room_prefix=None)
LISTED = make_site("listed", auth_url=None, jwt=(JwtIssuer(issuer=ISSUER, jwks="http://127.0.0.1/jwks"),))
#: Sites that backends reach by Pusher's HTTP API: with two live keys; with data read as JSON, without queues.
PUSHED = make_site(
    "pushed",
    public_channel="public",
    limits=SiteLimits(message_bytes=180_000),
    pusher=PusherApp(app_id=101, key=("key-new", "key-old"), secret=("secret-new", "secret-old")),
)
DECODED = make_site(
    "decoded", user_room_prefix=None, pusher=PusherApp(app_id="app_2", key="key-2", secret="secret-2", decode_data=True)
)
_ALL = (SITE, PLAIN, NARROW, QUIET, BOUND, BACK, ALONE, BESIDE, OPEN, LISTED, PUSHED, DECODED)
SITES = {site.name: site for site in _ALL}


class Directory:
    """The tenant's backend: gives the answers of the test and remembers the callers. Lives for one test."""

    def __init__(self) -> None:
        self.answer: list[str] | str = ["user_1"]
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.abandoned = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def fetch_rooms(self, site: Site, token: str | None, meta: str | None) -> list[str]:
        """Returns rooms, or raises a refusal with the text."""
        self.asked.append((site.name, token, meta))
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        if isinstance(self.answer, str):
            raise AuthRefused(self.answer)
        return self.answer


class Updates:
    """Remembers the reports. Lives for one test."""

    def __init__(self) -> None:
        self.reported: list[tuple[str, str, str | None, bool]] = []
        self.moments: list[datetime] = []

    def update_user(self, site: Site, user_id: str, token: str | None, connected: bool, at: datetime) -> None:
        """Records that a user came or went."""
        assert abs(datetime.now(UTC) - at) < timedelta(seconds=60)
        self.reported.append((site.name, user_id, token, connected))
        self.moments.append(at)


class NoSets:
    """No JWKS can be had. Lives for one test."""

    async def keys(self, site: Site, url: str, suffices: Callable[[KeySet], bool]) -> KeySet | None:
        """See `KeySource`."""
        return None


class Door:
    """The application behind a Socket.IO server, on one node. Lives for one test."""

    def __init__(self, node: StoreNode, valkey: Valkey) -> None:
        self.node = node
        self.valkey = valkey
        self.directory = Directory()
        self.updates = Updates()
        self.gate = TokenGate(NoSets(), node.counts, lambda: now_ms() + self.ahead_ms)
        #: How far the clock for tokens is ahead.
        self.ahead_ms = 0
        admission = Admission(self.directory, node.limits, node.tickets, self.gate)
        self.application = SitesApplication(SITES, node.delivery, admission, self.updates, node.counts)
        self.server = SocketServer(NamespaceRouter([self.application]))

    async def client(self, version: int = 4, query: str = "") -> Client:
        """A session that has joined no site. An old client is in the root without asking."""
        client = Client(self.server, version, query.encode())
        if version == 3:
            assert await received(client, 1) == ["40"]
        client.received()
        return client

    async def connected(self, packet: str = '40/site,{"token":"t"}', version: int = 4) -> Client:
        """A session that has joined a site, with its greeting already taken."""
        client = await self.client(version)
        await client.send(packet.encode())
        await received(client, 2)
        return client


async def received(client: Client, count: int) -> list[str]:
    """Waits for this number of packets and takes them."""
    await until(lambda: len(client.socket.written) >= count, f"{count} packets")
    return [packet.decode() for packet in client.received()]
