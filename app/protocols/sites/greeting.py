"""The first event of a new connection: `_settings`, which tells a client what its site has agreed on with it."""

from typing import Any

from app.config.settings import Site
from app.socketio.engine_packet import EncodedPacket
from app.socketio.socket_connection import NamespaceConnection
from app.surrogates import encode_json

EVENT = "_settings"


class Greetings:
    """The greetings of all sites. Lives as long as the application."""

    def __init__(self) -> None:
        #: The packet for clients that are told the time of their device alone, by site, with that time: most clients
        #: of a site get the same.
        self._plain: dict[str, tuple[int, EncodedPacket]] = {}

    def send(self, connection: NamespaceConnection, site: Site, settings: dict[str, Any]) -> None:
        """Writes the event. `settings` has the time of the device, and what else the client is told."""
        if len(settings) == 1:
            connection.send_encoded(self._plain_packet(site, settings))
        else:
            connection.send_event(EVENT, [settings])

    def _plain_packet(self, site: Site, settings: dict[str, Any]) -> EncodedPacket:
        known = self._plain.get(site.name)
        if known is None or known[0] != site.device_ttl_seconds:
            packet = EncodedPacket(f"42/{site.name},".encode() + encode_json([EVENT, settings]))
            known = self._plain[site.name] = (site.device_ttl_seconds, packet)
        return known[1]
