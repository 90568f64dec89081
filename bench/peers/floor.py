"""The floor: picows on uvloop writes one ready frame to every socket and reads a short one back. No contract is kept.

It speaks just enough Engine.IO 4 for the same generator to measure it. The token gives the rooms without a request,
nothing is stored, an acknowledgement is counted and forgotten. POST /send on a second port is the trigger.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import Any, cast

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from bench.generator.frames import server_frame

_PING_SECONDS = 25
_PING = server_frame(b"2")
_OPEN = server_frame(b'0{"sid":"floor","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}')
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nOK"


class Floor:
    """The members of each room, and the number of acknowledgements. Lives as long as the process."""

    def __init__(self, acknowledging_site: str) -> None:
        self.acknowledging_site = acknowledging_site
        self.rooms: dict[str, dict[WSTransport, asyncio.Transport]] = {}
        self.acknowledgements = 0

    def send(self, site: str, message: dict[str, Any]) -> None:
        """Write one ready frame to each socket of the message's rooms."""
        array = json.dumps([message["event"], *message["args"]], separators=(",", ":"))
        acknowledgement_id = "1" if site == self.acknowledging_site else ""
        frame = server_frame(f"42/{site},{acknowledgement_id}{array}".encode())
        for room in message["rooms"]:
            for transport in self.rooms.get(f"{site} {room}", {}).values():
                transport.write(frame)

    async def ping_forever(self) -> None:
        """Ping each socket every 25 s, a part of them each second."""
        second = 0
        while True:
            await asyncio.sleep(1)
            second = (second + 1) % _PING_SECONDS
            everyone = {transport for members in self.rooms.values() for transport in members.values()}
            for transport in everyone:
                if hash(transport) // 64 % _PING_SECONDS == second:
                    transport.write(_PING)


class Listener(WSListener):
    """One device's socket, for which it lives."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._rooms: list[str] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Open the Engine.IO session."""
        transport.underlying_transport.write(_OPEN)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Count an acknowledgement, or join the rooms that the CONNECT packet's token names."""
        if frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()
            return
        payload = frame.get_payload_as_bytes()
        if payload.startswith(b"43"):
            self._floor.acknowledgements += 1
        elif payload.startswith(b"40/"):
            self._join(transport, payload)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leave the rooms."""
        for room in self._rooms:
            self._floor.rooms[room].pop(transport, None)

    def _join(self, transport: WSTransport, packet: bytes) -> None:
        site, _, identity = packet[3:].decode().partition(",")
        self._rooms = [f"{site} {room}" for room in json.loads(identity)["token"].split("~")]
        for room in self._rooms:
            self._floor.rooms.setdefault(room, {})[transport] = transport.underlying_transport
        transport.underlying_transport.write(server_frame(f'40/{site},{{"sid":"floor"}}'.encode()))
        transport.underlying_transport.write(server_frame(f'42/{site},["_settings",{{"device_ttl":3600}}]'.encode()))


class Trigger(asyncio.Protocol):
    """One keep-alive connection of the publisher, for which it lives; reads POST /send."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the answers."""
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Send each whole request's message and answer 200."""
        self._rest += data
        head, separator, body = self._rest.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        if not separator or len(body) < size:
            return
        self._rest = b""
        site = head.partition(b"site=")[2].partition(b"&")[0].decode()
        self._floor.send(site, json.loads(body))
        assert self._transport is not None
        self._transport.write(_OK)


async def serve(acknowledging_site: str) -> None:
    """Listen on two free ports, print them (WebSocket first), serve until killed."""
    loop = asyncio.get_running_loop()
    floor = Floor(acknowledging_site)

    def listen(_: WSUpgradeRequest) -> WSListener:
        return Listener(floor)

    server = await ws_create_server(listen, "127.0.0.1", 0, backlog=1024)
    trigger = await loop.create_server(lambda: Trigger(floor), "127.0.0.1", 0)
    print("listening", server.sockets[0].getsockname()[1], trigger.sockets[0].getsockname()[1], flush=True)
    await floor.ping_forever()


def main() -> None:
    """Argument: a JSON file of sites; the one with a userRoomPrefix acknowledges."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with open(sys.argv[1], encoding="utf-8") as file:
        sites = json.load(file)
    uvloop.run(serve(next(name for name, settings in sites.items() if settings.get("userRoomPrefix"))))


if __name__ == "__main__":
    main()
