"""The keys that Redis should hold for a site's model, as store/keys.py describes them, and the keys that it holds."""

from __future__ import annotations

from typing import Any

import msgspec

from app.config.settings import Site
from app.store.keys import prefix
from tests.store.queue_model import Device, SiteModel

Store = dict[str, Any]


def read_store(client: Any) -> Store:
    """Every key with its whole value, members of sets sorted; three round trips."""
    keys = client.keys("*")
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.type(key)
        for key, kind in zip(keys, pipe.execute(), strict=True):
            _ask_for(pipe, kind, key)
        return {_decoded(key): _decoded(value) for key, value in zip(keys, pipe.execute(), strict=True)}


def part_of(site: Site, store: Store) -> Store:
    """The keys of one site, without its prefix."""
    start = prefix(site.name)
    return {key.removeprefix(start): value for key, value in store.items() if key.startswith(start)}


def expected_keys(model: SiteModel, found: Store) -> Store:
    """The site's keys from the model. `bytes` may hold any queue: one that was long at a send, not what has landed."""
    store: Store = {}
    if model.last_seq:
        store["seq"] = str(model.last_seq)
    if model.last_handle:
        store["handle"] = str(model.last_handle)
    if model.rooms_at:
        store["rooms_at"] = str(model.rooms_at)
    if model.counters:
        store["bus"] = {node: str(counter) for node, counter in model.counters.items()}
    for (user, device_id), device in model.devices.items():
        _put_device(store, user, device_id, device, model.site)
        _put_queue(store, device)
        handle = device.handle.decode()
        if handle in found.get("bytes", {}):
            store.setdefault("bytes", {})[handle] = str(sum(len(sent.body) for sent in device.queue))
    _put_messages(store, model)
    for key, value in store.items():
        if key in ("expiry", "ttl", "waiting") or key.startswith(("node:", "to:")):
            value.sort()
    return store


def _put_messages(store: Store, model: SiteModel) -> None:
    waiting = {sent.seq: sent for device in model.devices.values() for sent in device.queue}
    for seq, sent in waiting.items():
        store.setdefault("waiting", []).append([sent.id, float(seq)])
        if sent.options:
            store[f"to:{seq}"] = sorted(handle.decode() for handle in sent.recipients)
        if sent.ends_at:
            store.setdefault("ttl", []).append([str(seq), float(sent.ends_at)])
    for device in model.devices.values():
        for sent in device.queue:
            if sent.collapse:
                # Of two with one key the newest is the last.
                store.setdefault(f"collapse:{device.handle.decode()}", {})[sent.collapse] = str(sent.seq)


def _put_device(store: Store, user: str, device_id: str, device: Device, site: Site) -> None:
    handle = device.handle.decode()
    state = ",".join(sorted(device.nodes)) or f"@{device.deadline}"
    rooms = "[" + ",".join(f'"{room}"' for room in device.rooms) + "]"
    fields = {"user": user, "device": device_id} | {f"c:{node}.{number}": "1" for node, number in device.connections}
    if device.is_lost:
        fields["lost"] = str(device.lost_at)
    if device.withdrawn:
        fields["withdrawn"] = "".join(f"{id}," for id in device.withdrawn)
    if device.written:
        fields["written"] = str(device.written)
    if user == site.public_channel:
        fields["rooms"] = rooms
    else:
        store.setdefault("users", {})[user] = rooms
    store[f"device:{handle}"] = fields
    store.setdefault("devices", {})[f"{len(user)}:{user}:{device_id}"] = handle
    for key in (f"user:{user}", *(f"room:{room}" for room in device.rooms)):
        store.setdefault(key, {})[handle] = state
    for node in device.nodes:
        store.setdefault(f"node:{node}", []).append(handle)
    if not device.nodes and device.deadline:
        store.setdefault("expiry", []).append([handle, float(device.deadline)])


def _put_queue(store: Store, device: Device) -> None:
    if device.queue:
        store[f"queue:{device.handle.decode()}"] = [str(sent.seq) for sent in device.queue]
    for sent in device.queue:
        fields = {"data": sent.body.decode(), "event": sent.event, "size": str(len(sent.body))}
        fields |= {"at": str(sent.accepted_ms), "id": sent.id, "rooms": msgspec.json.encode(sent.rooms).decode()}
        if sent.options:
            fields["opt"] = sent.options.decode()
        body = store.setdefault(f"body:{sent.seq}", {**fields, "resync": str(int(sent.resync)), "refs": "0"})
        body["refs"] = str(int(body["refs"]) + 1)


def _ask_for(client: Any, kind: bytes, key: bytes) -> None:
    match kind:
        case b"string":
            client.get(key)
        case b"hash":
            client.hgetall(key)
        case b"list":
            client.lrange(key, 0, -1)
        case b"set":
            client.smembers(key)
        case b"stream":
            client.xrange(key)
        case _:
            client.zrange(key, 0, -1, withscores=True)


def _decoded(value: Any) -> Any:
    match value:
        case [(bytes(), dict()), *_]:
            return [_decoded(fields) for _, fields in value]
        case bytes():
            return value.decode(errors="surrogateescape")
        case dict():
            return {_decoded(key): _decoded(item) for key, item in value.items()}
        case set():
            return sorted(map(_decoded, value))
        case [[_, _], *_]:
            return sorted([_decoded(member), score] for member, score in value)
        case list():
            return [_decoded(item) for item in value]
    return value
