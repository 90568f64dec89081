"""The contract of sites written plainly: python-socketio and redis-py as their manuals show. A peer of the benchmark.

Argument: a JSON file of sites. REDIS_URL names the Redis that keeps the queues: a hash per device (message id to
message), a list of ids for the order. It does the work that the scenarios measure, and no more.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, cast

import httpx
import socketio
import uvicorn
import uvloop
from redis.asyncio import BlockingConnectionPool, Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

Settings = dict[str, str]

# Neither package is typed.
_socketio: Any = socketio


class Site:
    """One tenant's namespace, its users and their devices. Lives as long as the process."""

    def __init__(self, name: str, settings: Settings, sio: Any, redis: Redis, http: httpx.AsyncClient) -> None:
        self.name = name
        self.settings = settings
        self._namespace = f"/{name}"
        self._sio = sio
        self._redis = redis
        self._http = http
        self._users_of_room: dict[str, set[str]] = defaultdict(set)
        self._devices_of_user: dict[str, set[str]] = defaultdict(set)
        self._sids_of_device: dict[str, set[str]] = defaultdict(set)
        self._ids = itertools.count(1)
        sio.on("connect", self._connect, namespace=self._namespace)
        sio.on("disconnect", self._disconnect, namespace=self._namespace)

    async def send(self, rooms: list[str], event: str, arguments: list[Any]) -> None:
        """Store one message for each device and emit it to each that is connected."""
        if "userRoomPrefix" not in self.settings:
            await self._sio.emit(event, tuple(arguments), room=rooms, namespace=self._namespace)
            return
        devices = self._devices_in(rooms)
        message_id = str(next(self._ids))
        body = json.dumps([event, *arguments])
        pipeline = self._redis.pipeline(transaction=False)
        for device in devices:
            pipeline.hset(f"queue:{self.name}:{device}", message_id, body)
        await pipeline.execute()
        for device in devices:
            for sid in self._sids_of_device[device]:
                acknowledged = self._acknowledged(device, [message_id])
                await self._sio.emit(event, tuple(arguments), to=sid, namespace=self._namespace, callback=acknowledged)

    def _devices_in(self, rooms: list[str]) -> set[str]:
        prefix = self.settings["userRoomPrefix"]
        users = {user for room in rooms for user in ([room] if room.startswith(prefix) else self._users_of_room[room])}
        return {device for user in users for device in self._devices_of_user[user]}

    def _acknowledged(self, device: str, message_ids: list[str]) -> Callable[..., Awaitable[None]]:
        async def acknowledged(*_: Any) -> None:
            await self._redis.hdel(f"queue:{self.name}:{device}", *message_ids)

        return acknowledged

    async def _connect(self, sid: str, environ: dict[str, Any], auth: dict[str, str]) -> None:
        headers = {"Authorization": f"{self.settings['authScheme']} {auth['token']}"}
        answer = await self._http.get(self.settings["authUrl"], headers=headers)
        if answer.status_code != 200:
            raise _socketio.exceptions.ConnectionRefusedError("Authentication failed")
        rooms: list[str] = answer.json()
        for room in rooms:
            await self._sio.enter_room(sid, room, namespace=self._namespace)
        # After the CONNECT packet, which python-socketio sends when this handler has returned.
        self._sio.start_background_task(self._welcome, sid, rooms, auth.get("deviceId", ""))

    async def _welcome(self, sid: str, rooms: list[str], device_id: str) -> None:
        prefix = self.settings.get("userRoomPrefix")
        devices = [f"{room}:{device_id}" for room in rooms if prefix and room.startswith(prefix)]
        for device in devices:
            user = device.partition(":")[0]
            for room in rooms:
                self._users_of_room[room].add(user)
            self._devices_of_user[user].add(device)
            self._sids_of_device[device].add(sid)
        await self._sio.save_session(sid, {"devices": devices}, namespace=self._namespace)
        await self._sio.emit("_settings", {"device_ttl": 3600}, to=sid, namespace=self._namespace)
        for device in devices:
            await self._replay(sid, device)

    async def _replay(self, sid: str, device: str) -> None:
        queue = await cast(Awaitable[dict[bytes, bytes]], self._redis.hgetall(f"queue:{self.name}:{device}"))
        if queue:
            ids = sorted((key.decode() for key in queue), key=int)
            batch = [json.loads(queue[message_id.encode()]) for message_id in ids]
            acknowledged = self._acknowledged(device, ids)
            await self._sio.emit("_batch", (batch,), to=sid, namespace=self._namespace, callback=acknowledged)

    async def _disconnect(self, sid: str, *_: Any) -> None:
        session = await self._sio.get_session(sid, namespace=self._namespace)
        for device in session.get("devices", []):
            self._sids_of_device[device].discard(sid)


def build(settings_of_site: dict[str, Settings]) -> Callable[..., Any]:
    """Return the ASGI app that serves these sites."""
    sio = _socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*", namespaces="*")
    # The default pool raises when more than its 100 connections are wanted at once; a fan-out's acks are 1,000.
    redis = Redis(connection_pool=BlockingConnectionPool.from_url(os.environ["REDIS_URL"], timeout=None))
    http = httpx.AsyncClient(timeout=5)
    sites = {name: Site(name, settings, sio, redis, http) for name, settings in settings_of_site.items()}

    async def send(request: Request) -> Response:
        site = sites.get(request.query_params.get("site", ""))
        if site is None or site.settings["apiKey"] != request.query_params.get("apiKey"):
            return PlainTextResponse("ApiKey invalid.", 401)
        message = await request.json()
        await site.send(message["rooms"], message["event"], message["args"])
        return PlainTextResponse("OK")

    app = Starlette(routes=[Route("/send", send, methods=["POST"])])
    return cast(Callable[..., Any], _socketio.ASGIApp(sio, app))


async def serve(settings_of_site: dict[str, Settings]) -> None:
    """Listen on a free port, print it, serve until killed."""
    config = uvicorn.Config(build(settings_of_site), host="127.0.0.1", port=0, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event to wait for)
        await asyncio.sleep(0.01)
    print("listening", server.servers[0].sockets[0].getsockname()[1], flush=True)
    await task


def main() -> None:
    """Raise the limit of open files and serve."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with open(sys.argv[1], encoding="utf-8") as file:
        sites = json.load(file)
    uvloop.run(serve(sites))


if __name__ == "__main__":
    main()
