"""`QueueReader` on Redis: scripts that change nothing, and steps of scans; see `lua/`, and `app/store/keys.py`."""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from app.config.settings import Site
from app.protocols.receipts.ports import (
    ALL_DEVICES,
    Client,
    DeviceFacts,
    HandlePart,
    HolderPart,
    QueuedMessage,
    QueuePart,
    Scan,
    SeqPart,
    Steps,
    WaitingMessage,
)
from app.protocols.receipts.settings import (
    DESCRIBED_A_RUN,
    DEVICES_A_RUN,
    LEAST_SCAN_COUNT,
    MAX_SORTED,
    MESSAGES_A_RUN,
    SCAN_COUNT,
    USERS_A_COMMAND,
)
from app.redis.client import Commands
from app.redis.link import Word
from app.store.keys import device_field, prefix
from app.surrogates import encode_text

_MAX_OPTION_TEXT = 65_536

_T = TypeVar("_T")


class RedisQueueReader:
    """The queues of all sites. Holds no state but the link; lives as long as the node."""

    def __init__(self, redis: Commands) -> None:
        self._redis = redis
        #: The time for scripts in milliseconds since the epoch; "" is Redis's own clock. Tests set it.
        self.now_ms: int | str = ""

    async def seq_of(self, site: Site, id: int) -> int | None:
        """The seq of a message that waits; see `QueueReader`."""
        await self._land(site)
        seq = await self._redis.command("ZSCORE", prefix(site.name) + "waiting", id)
        return _whole(seq) or None

    async def describe_messages(self, site: Site, seqs: Sequence[int], steps: Steps) -> list[WaitingMessage | None]:
        """Each of the messages; see `QueueReader`."""
        answers = await self._run_in_parts(partial(self._run, "message_facts", site), seqs, MESSAGES_A_RUN, steps)
        return [_message(*words) if len(words) > 1 else None for words in answers]

    async def waiting_seqs(self, site: Site, before: int | None, most: int) -> SeqPart:
        """Seqs that may wait; see `QueueReader`."""
        await self._land(site)
        key = prefix(site.name)
        last = int(await self._redis.command("GET", key + "seq") or 0)
        end = last if before is None else min(before - 1, last)
        words = ("ZREVRANGEBYSCORE", key + "waiting", end, "-inf", "WITHSCORES", "LIMIT", 0, most + 1)
        seqs = list(map(_whole, (await self._redis.command(*words))[1::2]))
        return SeqPart(seqs[:most], seqs[most - 1] if len(seqs) > most else None)

    async def find_device(self, site: Site, user: str, device: str) -> int | None:
        """The handle of a device; see `QueueReader`."""
        handle = await self._redis.command("HGET", prefix(site.name) + "devices", device_field(user, device))
        return int(handle) if handle else None

    async def handles(self, site: Site, key: str, scan: Scan, limit: int, steps: Steps) -> HandlePart:
        """Handles of a hash or set; see `QueueReader`. Few handles are sorted, so that pages meet what comes and goes;
        many come in the order of Redis, which names each that is there all the time."""
        name = prefix(site.name) + key
        is_set = key.startswith("to:")
        if scan.redis is None and not scan.left:
            count = await self._redis.command("SCARD" if is_set else "HLEN", name)
            steps.take()
            if count <= MAX_SORTED:
                return _sorted_part(await self._all_handles(key, name), scan, limit)
            scan = Scan(redis="0")
        return await self._scan_part(key, name, scan, limit, steps)

    async def handles_in_state(
        self, site: Site, key: str, state: str, scan: Scan, limit: int, steps: Steps
    ) -> HandlePart:
        """Handles of the devices in a state; see `QueueReader`. Few are sorted, as those of `handles` are."""
        await self._land(site)
        if scan.redis is None and not scan.left:
            steps.take()
            if await self._redis.command("HLEN", prefix(site.name) + key) <= MAX_SORTED:
                found, _ = await self._walk(site, key, state, Scan(redis="0"), MAX_SORTED, Steps(MAX_SORTED))
                return _sorted_part(sorted(found), scan, limit)
            scan = Scan(redis="0")
        found, cursor = await self._walk(site, key, state, scan, limit, steps)
        left = found[limit:]
        return HandlePart(found[:limit], Scan(redis=cursor, left=left) if left or cursor else None, False)

    async def counted_queues(self, site: Site, most: int) -> list[tuple[int, int]]:
        """The queues that are long enough to matter; see `QueueReader`."""
        await self._land(site)
        found, cursor = dict[int, int](), "0"
        while True:
            words = ("HSCAN", prefix(site.name) + "bytes", cursor, "COUNT", SCAN_COUNT)
            following, part = await self._redis.command(*words)
            found |= {int(handle): _whole(size) for handle, size in zip(part[::2], part[1::2], strict=True)}
            cursor = following.decode()
            if cursor == "0" or len(found) >= most:
                return [(size, handle) for handle, size in itertools.islice(found.items(), most)]

    async def _walk(
        self, site: Site, key: str, state: str, scan: Scan, limit: int, steps: Steps
    ) -> tuple[list[int], str]:
        """The handles in a state from a place on, and where Redis goes on; "": that was all."""
        found, cursor = list(scan.left), scan.redis or ""
        count = LEAST_SCAN_COUNT
        while len(found) < limit and cursor and not steps.are_used_up:
            steps.take()
            following, *part = await self._run("devices_in_state", site, key, state, cursor, count, limit - len(found))
            cursor = "" if following == b"0" else following.decode()
            found = list(dict.fromkeys(itertools.chain(found, map(int, part))))
            # Where few are in the state, further steps look at more. A small first one keeps the cursor short.
            count = min(2 * count, SCAN_COUNT)
        return found, cursor

    async def holders(
        self, site: Site, seq: int, handles: Sequence[int], outside: Sequence[str], steps: Steps
    ) -> HolderPart:
        """Which of the handles have a message; see `QueueReader`."""
        looked_at, found = 0, list[int]()
        while looked_at < len(handles) and not steps.are_used_up:
            part = handles[looked_at : looked_at + DEVICES_A_RUN]
            steps.take()
            count, *holding = await self._run("message_holders", site, seq, len(outside), *outside, *part)
            looked_at += count
            found += map(int, holding)
        return HolderPart(looked_at, found)

    async def describe_devices(self, site: Site, handles: Sequence[int], steps: Steps) -> list[DeviceFacts | None]:
        """Each of the devices; see `QueueReader`."""
        await self._land(site)
        run = partial(self._run, "device_facts", site, self.now_ms)
        answers = await self._run_in_parts(run, handles, DESCRIBED_A_RUN, steps)
        return [_device(words) if len(words) > 1 else None for words in answers]

    async def user_rooms(self, site: Site, users: Sequence[str]) -> list[list[str]]:
        """The rooms of users; see `QueueReader`."""
        found: list[list[str]] = []
        for start in range(0, len(users), USERS_A_COMMAND):
            names = map(encode_text, users[start : start + USERS_A_COMMAND])
            rooms = await self._redis.command("HMGET", prefix(site.name) + "users", *names)
            found += [_texts(packed or b"") for packed in rooms]
        return found

    async def queue(self, site: Site, handle: int, after: int, limit: int) -> QueuePart:
        """A part of a device's queue; see `QueueReader`."""
        await self._land(site)
        more, *entries = await self._run("queue_part", site, self.now_ms, handle, after, limit)
        return QueuePart([_queued(*words) for words in entries], more == b"1")

    async def queued_seqs(self, site: Site, handle: int, steps: Steps) -> list[int]:
        """The seqs in a queue; see `QueueReader`."""
        await self._land(site)
        key, found = f"{prefix(site.name)}queue:{handle}", list[int]()
        while not steps.are_used_up:
            steps.take()
            part = await self._redis.command("LRANGE", key, len(found), len(found) + 999)
            found += map(int, part)
            if len(part) < 1000:
                break
        return found

    async def _land(self, site: Site) -> None:
        """Messages in flight at this moment are in the queues when these are read."""
        await self._run("land", site)

    def _run(self, script: str, site: Site, *words: Word) -> Awaitable[Any]:
        return self._redis.run(script, prefix(site.name), *words)

    async def _run_in_parts(
        self, run: Callable[..., Awaitable[Any]], numbers: Sequence[int], part: int, steps: Steps
    ) -> list[list[Any]]:
        """The answers of a script that answers for the numbers in front."""
        answers: list[list[Any]] = []
        while len(answers) < len(numbers) and not steps.are_used_up:
            steps.take()
            answers += await run(*numbers[len(answers) : len(answers) + part])
        return answers

    async def _all_handles(self, key: str, name: str) -> list[int]:
        command = "SMEMBERS" if key.startswith("to:") else "HVALS" if key == ALL_DEVICES else "HKEYS"
        return sorted(map(int, await self._redis.command(command, name)))

    async def _scan_part(self, key: str, name: str, scan: Scan, limit: int, steps: Steps) -> HandlePart:
        found, cursor = list(scan.left), scan.redis or ""
        is_set = key.startswith("to:")
        place = slice(None) if is_set else slice(1, None, 2) if key == ALL_DEVICES else slice(None, None, 2)
        command = "SSCAN" if is_set else "HSCAN"
        # The cursor keeps the elements of a step that the page has no place for: a small step keeps it short.
        count = min(max(limit, LEAST_SCAN_COUNT), SCAN_COUNT)
        while len(found) < limit and cursor and not steps.are_used_up:
            steps.take()
            following, part = await self._redis.command(command, name, cursor, "COUNT", count)
            cursor = "" if following == b"0" else following.decode()
            found = list(dict.fromkeys(itertools.chain(found, map(int, part[place]))))
        left = found[limit:]
        return HandlePart(found[:limit], Scan(redis=cursor, left=left) if left or cursor else None, False)


def _sorted_part(handles: Sequence[int], scan: Scan, limit: int) -> HandlePart:
    following = [handle for handle in handles if handle > scan.after]
    part = following[:limit]
    return HandlePart(part, Scan(after=part[-1]) if len(following) > limit else None, True)


def _message(*words: bytes) -> WaitingMessage:
    seq, id, event, size, waiting, at, rooms, options = words
    return WaitingMessage(
        int(seq),
        int(id) if id else None,
        _text(event),
        int(size),
        int(waiting),
        int(at),
        _texts(rooms),
        _options(options),
    )


def _queued(*words: bytes) -> QueuedMessage:
    seq, id, event, size, at, age, options = words
    number = int(id) if id else None
    return QueuedMessage(int(seq), number, _text(event), int(size), int(at), int(age), _options(options))


def _device(words: list[Any]) -> DeviceFacts:
    handle, user, device, state, messages, size, age, lost, written, seen, rooms, transport, *client = words
    is_away = state.startswith(b"@")
    return DeviceFacts(
        handle=int(handle),
        user=_text(user),
        device=_text(device),
        nodes=[] if is_away else state.decode().split(","),
        deadline_ms=_whole(state[1:]) if is_away else 0,
        messages=messages,
        bytes=None if size < 0 else size,
        oldest_age_ms=max(0, int(age)) if age else None,
        is_lost=bool(lost),
        written_seq=_whole(written),
        acked_ms=_whole(seen) or None,
        rooms=_texts(rooms) if rooms else None,
        client=_client(transport, b"".join(client)),
    )


def _client(transport: bytes, packed: bytes) -> Client | None:
    """The client of a description, as connect.lua has stored it; None: there is none."""
    length, _, rest = packed.partition(b" ")
    if not length.isdigit():
        return None
    connected, version, agent = (rest[: int(length)].split(b" ", 2) + [b""] * 3)[:3]
    return Client(_whole(connected), _text(transport), _whole(version), _text(agent))


def _whole(digits: bytes) -> int:
    """The whole number of a text of Redis, which may write it as `1e+12`; 0 for no number."""
    return _or(lambda: int(float(digits)), 0) if digits else 0


def _text(name: bytes) -> str:
    return name.decode(errors="replace")


def _texts(packed: bytes) -> list[str]:
    """The names in a JSON list."""
    names: list[str | int | float] = _or(lambda: msgspec.json.decode(packed, type=list[str | int | float]), [])
    return [str(name) for name in names]


def _options(packed: bytes) -> dict[str, object]:
    if not packed or len(packed) > _MAX_OPTION_TEXT:
        return {}
    return _or(lambda: msgspec.json.decode(packed, type=dict[str, object]), {})


def _or(read: Callable[[], _T], otherwise: _T) -> _T:
    """The result of `read`; `otherwise` for what cannot be read: one bad field hides no other."""
    try:
        return read()
    except (ValueError, OverflowError, RecursionError, msgspec.DecodeError):
        return otherwise
