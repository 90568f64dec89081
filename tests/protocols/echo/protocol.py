"""The protocol `echo`, the smallest one that uses every part of the contract of a protocol. Only tests list it.

    POST /echo/<site>      sends the body to every listener of the site's echo
    /echo-<site>           the Socket.IO namespace of the listeners

A site turns it on with `echo: {prefix: "> "}`; the prefix stands before each text.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from app.config.section import Section, SectionSpec
from app.config.settings import Config, Site
from app.core.message import Audience, LiveMessage, Message
from app.errors import ConfigError
from app.observe.counts import Counts
from app.observe.metric import SITE, Kind, Metric, of_part
from app.protocols.http_request import Receive, Scope, Send, read_body, segments_of
from app.protocols.protocol import NodeProtocol, NodeServices, ProtocolSpec

_NAMESPACE = "/echo-"


class Echo(Struct, frozen=True, kw_only=True):
    """A site's settings for its echo."""

    prefix: str = ""


class EchoKeys(Section):
    """`echo:`"""

    prefix: str | None = None


class EchoCounts:
    """The numbers of one site's echo. Lives as long as the site's counts."""

    __slots__ = ("texts",)

    def __init__(self) -> None:
        #: Texts that were said.
        self.texts = 0


class EchoNamespaces:
    """The listeners of all sites on one node; their Socket.IO application. Lives as long as the node."""

    def __init__(self, sites: dict[str, Site]) -> None:
        self._sites = sites
        self._listeners: dict[str, dict[Any, None]] = {name: {} for name in sites}

    def accepts_namespace(self, namespace: str) -> bool:
        """Whether a site with an echo is served there."""
        return namespace.removeprefix(_NAMESPACE) in self._sites

    def claims(self, request: Any) -> bool:
        """Claims every client, whatever its credentials."""
        return True

    async def connect(self, connection: Any, request: Any) -> None:
        """Admits every client as a listener."""
        connection.confirm()
        connection.state = request.namespace.removeprefix(_NAMESPACE)
        self._listeners[connection.state][connection] = None

    def event_received(self, connection: Any, event: str, args: list[Any], ack_id: int | None) -> None:
        """Ignores events from listeners."""

    def ack_received(self, connection: Any, ack_id: int) -> None:
        """Ignores acks, because no message asks for one."""

    def disconnected(self, connection: Any, reason: str) -> None:
        """Forgets a listener that has gone."""
        if connection.state is not None:
            self._listeners[connection.state].pop(connection, None)

    def say(self, site: Site, text: str) -> None:
        """Writes a text to every listener of the site on this node."""
        for connection in list(self._listeners[site.name]):
            connection.send_event("echo", [text])


class NodeEcho(NodeProtocol):
    """The echo of one node. Lives as long as the node."""

    def __init__(self, services: NodeServices) -> None:
        self._services = services
        self._sites = {name: site for name, site in services.config.sites.items() if site.section(Echo)}
        self._audiences = services.delivery.audiences("echo", self)
        self._counts: Counts = services.counts
        self.namespaces = EchoNamespaces(self._sites)
        self.application = self._answer

    async def start(self) -> None:
        """Joins the audience of every site."""
        for site in self._sites.values():
            await self._audiences.join(site, ["all"])

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        site = self._sites.get(segments_of(scope)[1])
        status = 404
        if site is not None and scope["type"] == "http":
            text = (await read_body(dict(scope["headers"]), receive, 1_000)).decode()
            body = msgspec.json.encode(["echo", site.require_section(Echo).prefix + text])
            number = self._services.ids.next_id()
            audience = Audience("echo", ["all"])
            await self._services.delivery.publish(Message(site, number, [], "echo", body, audiences=[audience]))
            self._counts.of(site.name).part(EchoCounts).texts += 1
            status = 204
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    # Called by the core

    def published(self, site: Site, message: LiveMessage) -> None:
        """Writes a text to the listeners on this node."""
        self.namespaces.say(site, msgspec.json.decode(message.body)[1])

    def missed(self, site: Site) -> None:
        """Ignores a loss, because an echo has no history."""

    def audience_of(self, site: Site, name: str) -> Audience | None:
        """Nothing can be bound to an echo."""
        return None


def _check(config: Config) -> None:
    for site in config.sites.values():
        echo = site.section(Echo)
        if echo is not None and len(echo.prefix) > 10:
            raise ConfigError(f"{site.name}.echo.prefix: expected at most 10 characters")


ECHO = ProtocolSpec(
    "echo",
    NodeEcho,
    section=SectionSpec("echo", EchoKeys, Echo),
    check_sites=_check,
    metrics=(Metric(Kind.COUNTER, "recado_echo_texts", "Texts said.", SITE, of_part(EchoCounts, lambda c: c.texts)),),
    mounts={("http", "/say"): ""},
)
