"""The `_settings` of a new connection."""

from __future__ import annotations

from typing import Any, cast

from app.config.settings import Site
from app.protocols.sites.greeting import Greetings
from app.socketio.engine_packet import EncodedPacket

PLAIN = {"device_ttl": 3600}


class Link:
    """A connection that keeps what is written. Lives for one test."""

    def __init__(self) -> None:
        self.packets: list[EncodedPacket] = []
        self.events: list[Any] = []

    def send_encoded(self, packet: EncodedPacket) -> None:
        """Keeps a packet."""
        self.packets.append(packet)

    def send_event(self, event: str, args: list[Any]) -> None:
        """Keeps an event."""
        self.events.append([event, *args])


def greet(greetings: Greetings, site: Site, settings: dict[str, Any]) -> Link:
    """The link after a greeting."""
    link: Any = Link()
    greetings.send(link, site, settings)
    return cast(Link, link)


def test_one_packet_for_all_that_are_told_the_same() -> None:
    """Clients of a site share the packet, until the time of its devices changes; other sites have their own."""
    greetings, shop = Greetings(), Site(name="shop", api_key="k")
    (first,), (second,) = greet(greetings, shop, PLAIN).packets, greet(greetings, shop, PLAIN).packets
    assert first is second
    assert first.packet == b'42/shop,["_settings",{"device_ttl":3600}]'
    changed_site = Site(name="shop", api_key="k", device_ttl_seconds=5)
    (changed,) = greet(greetings, changed_site, {"device_ttl": 5}).packets
    assert changed.packet == b'42/shop,["_settings",{"device_ttl":5}]'
    (other,) = greet(greetings, Site(name="news", api_key="k"), PLAIN).packets
    assert other.packet == b'42/news,["_settings",{"device_ttl":3600}]'


def test_a_client_that_is_told_more_gets_an_event_of_its_own() -> None:
    """Settings beside the time are those of one client."""
    link = greet(Greetings(), Site(name="shop", api_key="k"), {"device_ttl": 3600, "positions": True})
    assert link.events == [["_settings", {"device_ttl": 3600, "positions": True}]]
    assert link.packets == []
