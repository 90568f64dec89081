"""One server, one door before it and one driver for each language, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from tests.packages.door import Door, Fault, Way
from tests.packages.languages import LANGUAGES, Language, Package
from tests.support.background import BackgroundLoop
from tests.support.clients import ACK_ALL, PYTHON_KINDS, AckPolicy, Client
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.hook_receiver import SECRET as HOOK_SECRET
from tests.support.issuer import ISSUER, TOKEN_SECRET
from tests.support.tenant import SECRET, Tenant, User
from tests.support.waiting import Recording

SITE = "shop"
KEY = f"{SECRET}-key-of-the-shop"


class Hooks:
    """The shop's receiver of webhooks: keeps each request as it came, body and headers."""

    def __init__(self, background: BackgroundLoop) -> None:
        """Listen on a free port."""
        self.seen: Recording[tuple[str, dict[str, str]]] = Recording()
        self._background = background
        application = web.Application()
        application.router.add_post("/hook", self._receive)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        self.url = background.run(self._start())

    def close(self) -> None:
        """Stop listening."""
        self._background.run(self._runner.cleanup())

    async def _start(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0]
        return f"http://{host}:{port}/hook"

    async def _receive(self, request: web.Request) -> web.Response:
        self.seen.add((await request.text(), dict(request.headers)))
        return web.Response()


@pytest.fixture(scope="session")
def hooks(background: BackgroundLoop) -> Iterator[Hooks]:
    """The receiver of webhooks."""
    receiver = Hooks(background)
    yield receiver
    receiver.close()


@pytest.fixture(scope="session")
def server(tenant: Tenant, hooks: Hooks) -> Iterator[Deployment]:
    """One node with a site that has queues, tokens, tickets and a webhook, and with one that has no queues."""
    shop = {
        "authUrl": f"{tenant.url}/shop/rooms",
        "apiKey": KEY,
        "userRoomPrefix": "user_",
        "jwt": {"issuer": ISSUER, "secret": TOKEN_SECRET, "audience": "shop"},
        "webhook": {
            "url": hooks.url,
            "secret": HOOK_SECRET,
            "events": ["message.acknowledged", "message.unacknowledged"],
            "allow_private": True,
        },
    }
    plain = {"authUrl": f"{tenant.url}/plain/rooms", "apiKey": KEY}
    deployment = Deployment({SITE: shop, "plain": plain}, {"log_level": "debug"})
    yield deployment
    deployment.end()


@pytest.fixture(scope="session")
def door(background: BackgroundLoop, server: Deployment) -> Iterator[Door]:
    """The door before the server."""
    opened = Door(background, server.url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def packages() -> Iterator[Callable[[Language], Package]]:
    """Starts the driver of a language, and keeps it."""
    started: dict[str, Package] = {}

    def start(language: Language) -> Package:
        if language.name not in started:
            started[language.name] = Package(language)
        return started[language.name]

    yield start
    for package in started.values():
        package.end()


@pytest.fixture(params=LANGUAGES, ids=str)
def package(request: pytest.FixtureRequest, packages: Callable[[Language], Package]) -> Package:
    """The package of each language."""
    return packages(request.param)


class Shop:
    """The shop's backend in one language: calls of its package, by the door or straight to the server."""

    def __init__(self, package: Package, door: Door, server: Deployment) -> None:
        """Straight to the server until `fail` says otherwise."""
        self._package = package
        self._door = door
        self.options: dict[str, Any] = {
            "url": server.url,
            "site": SITE,
            "api_key": KEY,
            "webhook_secret": HOOK_SECRET,
            "token_secret": TOKEN_SECRET,
            "token_issuer": ISSUER,
            "token_audience": "shop",
        }

    def __call__(self, name: str, **values: Any) -> Any:
        """Call a method; its result, or Refusal."""
        return self._package.call(self.options, name, **values)

    def having(self, **options: Any) -> Shop:
        """The same with other options of the client."""
        self.options |= options
        return self

    def fail(self, *faults: Fault) -> Way:
        """From here on requests pass the door, and meet these faults."""
        way = self._door.open(*faults)
        self.options["url"] = way.url
        return way

    def output(self) -> str:
        """Everything that the driver has written to stderr."""
        return self._package.output()


@pytest.fixture
def shop(package: Package, door: Door, server: Deployment) -> Shop:
    """The shop's backend in each language."""
    return Shop(package, door, server)


class Customers:
    """Users of the shop and their devices."""

    def __init__(self, connector: Connector, tenant: Tenant) -> None:
        """None is connected yet."""
        self._connector = connector
        self._tenant = tenant

    def user(self, *rooms: str) -> User:
        """A user with these rooms."""
        return self._tenant.user(*rooms)

    def room(self) -> str:
        """The name of a room that no other case uses."""
        return self._tenant.unique("room")

    def connect(self, user: User, ack: AckPolicy = ACK_ALL, device: str = "d1") -> Client:
        """A device of the user, after `_settings`."""
        return self._connector(SITE, user, PYTHON_KINDS[0], device, ack)


@pytest.fixture
def customers(server: Deployment, drivers: Drivers, tenant: Tenant) -> Iterator[Customers]:
    """Opens devices, which are closed when the test ends."""
    connector = Connector(server, drivers)
    yield Customers(connector, tenant)
    connector.close()
