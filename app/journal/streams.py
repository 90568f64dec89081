"""The streams in Redis from which the writer reads: one for each site, and one of the nodes outside of any site.

A stream is read from its begin after each new link: a Redis that came back may have lost its newest entries, and its
clock may be behind, so new ids may be smaller than the last one that was read. Entries that are in SQL already change
nothing there.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from app.config.settings import CANARY_SITE
from app.journal.merge import Entry, id_parts
from app.redis.client import Commands, RunScript

#: Entries of one stream in one reading, and the bytes after which it ends (one entry more may follow).
MAX_ENTRIES = 1_000
MAX_BYTES = 500_000
_BEGIN = "0-0"
#: The stream of the nodes, and what every other one begins and ends with.
NODES_STREAM = "recado:fate"
_NODES = "recado:nodes"


def stream_of(site: str) -> str:
    """The stream of a site."""
    return f"recado:{{{site}}}:fate"


class ReadStream:
    """One stream, and the position up to which it is read. Lives as long as the writer."""

    def __init__(self, key: str, site: str | None) -> None:
        self.key = key
        self.site = site
        #: Whether the position below is that in SQL.
        self.has_position = False
        #: The position in SQL, "" for none, and the count of entries up to it.
        self.stored_id = ""
        self.stored_read = 0
        #: Everything up to this entry that the stream holds is in SQL.
        self.after = _BEGIN
        #: Grows with each new link: then `after` begins again.
        self.generation = 0
        #: When it is to be looked at, on the loop's clock.
        self.due_at = 0.0
        #: The entries that waited at the last look, and the id of the first of them; "" for none.
        self.waiting = 0
        self.first_waiting = ""
        #: How many entries one reading takes: fewer while a batch cannot be written, to find the entry that is refused.
        self.most_entries = MAX_ENTRIES

    def begin_again(self) -> None:
        """Reads from the begin: the link is new."""
        self.after = _BEGIN
        self.generation += 1


class Reading(Struct):
    """The entries of one look into a stream. Lives until they are written."""

    stream: ReadStream
    generation: int
    entries: Sequence[Entry]
    #: Entries that were added to the stream so far, None where Redis does not count them, and those it holds now.
    added: int | None
    length: int
    #: Entries that left the full stream unread.
    missing: int
    #: Rows of nodes up to this id are in SQL.
    rows_behind: bytes

    def read_after(self, entries: int) -> int:
        """The count of entries in `positions` once this many are written."""
        if self.added is None:
            return self.stream.stored_read + entries
        return self.added - (self.length - entries)


class Streams:
    """All streams of this Redis. Lives as long as the writer."""

    def __init__(self, redis: Commands, sites: Iterable[str]) -> None:
        """`sites` are known from the configuration; the others are found in Redis."""
        self._redis = redis
        self._streams = {NODES_STREAM: ReadStream(NODES_STREAM, None)}
        for site in sites:
            self.add(site)
        redis.on_reconnect = self._reconnected

    def __iter__(self) -> Iterator[ReadStream]:
        return iter(list(self._streams.values()))

    def __len__(self) -> int:
        return len(self._streams)

    def add(self, site: str) -> None:
        """Reads a further site."""
        key = stream_of(site)
        if key not in self._streams:
            self._streams[key] = ReadStream(key, site)

    async def find(self) -> None:
        """Adds the sites that any node serves, or has served before it died. Raises StoreUnavailable."""
        for name in await self._redis.command("ZRANGE", _NODES, 0, -1):
            node = name.decode().removeprefix("~")
            for site in await self._redis.command("SMEMBERS", f"recado:sites:{node}"):
                if site.decode() != CANARY_SITE:
                    self.add(site.decode())

    async def waiting(self, streams: Sequence[ReadStream]) -> list[ReadStream]:
        """The streams among these that hold entries; a stream whose Redis is away holds none now."""
        asked = [self._redis.command("XLEN", stream.key) for stream in streams]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for stream, answer in zip(streams, answers, strict=True):
            if isinstance(answer, int):
                stream.waiting = answer
                if not answer:
                    stream.first_waiting = ""
        return [stream for stream, answer in zip(streams, answers, strict=True) if isinstance(answer, int) and answer]

    async def look(self) -> None:
        """Notes what waits in every stream, without reading it: SQL is away. Raises StoreUnavailable."""
        waiting = await self.waiting(list(self))
        asked = [self._redis.command("XRANGE", stream.key, "-", "+", "COUNT", 1) for stream in waiting]
        for stream, entries in zip(waiting, await asyncio.gather(*asked), strict=True):
            stream.first_waiting = entries[0][0].decode() if entries else ""

    async def read(self, stream: ReadStream) -> Reading | None:
        """Deletes from a stream what is in SQL, and reads the next entries; None: there are none. Raises StoreError."""
        trim = next_id(stream.after) if stream.after != _BEGIN else ""
        known_id = stream.stored_id or _BEGIN
        # Behind the begin of a new link the stream may hold entries that are in SQL.
        counted = known_id if stream.after == _BEGIN else stream.after
        generation = stream.generation
        answer = await self._redis.run(
            "journal_read", stream.key, trim, stream.after, counted, stream.most_entries, MAX_BYTES
        )
        added_text, length, last_id, known, entries = answer
        added = int(added_text) if added_text else None
        is_rewound = id_parts(last_id) < id_parts(known_id)
        stream.waiting = length
        stream.first_waiting = entries[0][0].decode() if entries else ""
        if not entries:
            return None
        missing = 0
        if added is not None and not is_rewound:
            missing = max(0, added - (length - known) - stream.stored_read)
        rows_behind = b"" if is_rewound else known_id.encode()
        return Reading(stream, generation, entries, added, length, missing, rows_behind)

    def written(self, reading: Reading, to_id: str, read: int) -> None:
        """The reading is in SQL, up to an entry. The next reading deletes these entries."""
        stream = reading.stream
        stream.stored_id, stream.stored_read = to_id, read
        stream.waiting -= len(reading.entries)
        stream.first_waiting = ""
        if stream.generation == reading.generation:
            stream.after = to_id

    async def trim(self) -> None:
        """Deletes all entries that are in SQL. A Redis that is away keeps them for the next writer."""
        read = [stream for stream in self._streams.values() if stream.after != _BEGIN]
        asked = [self._redis.command("XTRIM", stream.key, "MINID", next_id(stream.after)) for stream in read]
        await asyncio.gather(*asked, return_exceptions=True)

    async def _reconnected(self, run_id: str, run: RunScript) -> None:
        for stream in self._streams.values():
            stream.begin_again()


def next_id(id: str) -> str:
    """The smallest id behind an entry's."""
    first, second = id_parts(id)
    return f"{first}-{second + 1}"
