"""The writer of the journal on a Cluster, whose sites lie on several servers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from app.journal.database import open_database
from app.journal.schema import upgrade_schema
from app.journal.streams import Streams, stream_of
from app.journal.tables import messages
from app.journal.writer import JournalWriter
from app.redis.address import read_redis_url
from app.redis.topology import new_redis
from tests.support.fates import FIRST_SEQ, FateStream, rows_of, write_all
from tests.support.topologies import valkey_cluster


async def test_a_writer_reads_every_shard(tmp_path: Path) -> None:
    """Sites of all servers are found, written in common transactions, and deleted from their streams."""
    engine = open_database(f"sqlite:///{tmp_path / 'journal.sqlite'}", is_writer=True)
    await upgrade_schema(engine)
    names = [f"site{number}" for number in range(12)]
    with valkey_cluster() as cluster:
        nodes: Any = cluster.primary_of("recado:nodes").client
        nodes.zadd("recado:nodes", {"node": 1})
        cluster.primary_of("recado:sites:node").client.sadd("recado:sites:node", *names)
        streams = [
            FateStream(SimpleNamespace(client=cluster.primary_of(stream_of(name)).client), name) for name in names
        ]
        redis = new_redis(read_redis_url(cluster.url), 5.0)
        await redis.start()
        try:
            for stream in streams:
                stream.send(FIRST_SEQ, [1, 2])
                stream.ack((FIRST_SEQ, [1]))
            await write_all(JournalWriter(redis, engine, Streams(redis, [])))
            assert [stream.length for stream in streams] == [0] * len(names)
        finally:
            await redis.close()
        assert len(set(map(cluster.port_of, map(stream_of, names)))) == 3
    rows = await rows_of(engine, messages)
    assert [(row["addressed"], row["n_acked"]) for row in rows] == [(2, 1)] * len(names)
    await engine.dispose()
