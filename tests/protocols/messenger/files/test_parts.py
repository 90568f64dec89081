"""The places of parts: the disk and S3, with the same promises."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.errors import ConfigError
from app.protocols.messenger.files import s3_parts
from app.protocols.messenger.files.disk_parts import DiskParts, new_disk_pool
from app.protocols.messenger.files.ports import PIECE_BYTES, FilesFull, FilesUnavailable, PartStore
from app.protocols.messenger.files.s3_parts import PartMemory, S3Parts
from tests.support.s3 import S3Server

PLACE, OTHER = "1/" + "a" * 32, "1/" + "b" * 32


@pytest.fixture(params=["disk", "s3"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[PartStore]:
    """An empty place, of each kind."""
    if request.param == "disk":
        pool = new_disk_pool()
        yield DiskParts(tmp_path / "files", pool)
        pool.close()
        return
    server: S3Server = request.getfixturevalue("s3")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield S3Parts(f"s3://{server.new_bucket()}/a/prefix", PartMemory())


async def written(store: PartStore, place: str, *pieces: bytes) -> str:
    """A part with these bytes."""
    writer = await store.begin("shop", place, 1 << 20)
    for piece in pieces:
        await writer.write(piece)
    return await writer.finish()


async def test_parts(store: PartStore) -> None:
    """A part has the bytes that were written, and can be read from any place; each has a name of its own."""
    data = os.urandom(PIECE_BYTES + 100)
    first, second = await written(store, PLACE, data[:10], data[10:]), await written(store, PLACE, b"x")
    assert first != second
    assert await store.read("shop", first, 0, PIECE_BYTES) == data[:PIECE_BYTES]
    assert await store.read("shop", first, PIECE_BYTES - 1, 101) == data[-101:]
    assert await store.read("shop", second, 0, 1) == b"x"


async def test_reading_too_much(store: PartStore) -> None:
    """A part that is shorter than its row says, or gone, is an error, never fewer bytes."""
    part = await written(store, PLACE, b"12345")
    with pytest.raises(FilesUnavailable):
        await store.read("shop", part, 3, 3)
    await store.drop("shop", [part])
    with pytest.raises(FilesUnavailable):
        await store.read("shop", part, 0, 1)


async def test_abandoned(store: PartStore) -> None:
    """An abandoned part leaves nothing; to abandon a finished one is harmless to the others."""
    kept = await written(store, PLACE, b"1")
    writer = await store.begin("shop", PLACE, 10)
    await writer.write(b"2" * PIECE_BYTES)
    await writer.abandon()
    await writer.abandon()
    assert await store.read("shop", kept, 0, 1) == b"1"


async def test_kept_parts(store: PartStore) -> None:
    """Of a place only the named parts stay; other places are left alone. A repetition is harmless."""
    parts = [await written(store, PLACE, b"1") for _ in range(3)]
    other = await written(store, OTHER, b"2")
    for _ in range(2):
        await store.keep_only("shop", PLACE, parts[:1])
        await store.drop("shop", parts[1:])
    assert await store.read("shop", parts[0], 0, 1) == b"1"
    with pytest.raises(FilesUnavailable):
        await store.read("shop", parts[1], 0, 1)
    for _ in range(2):
        await store.keep_only("shop", PLACE, [])
    with pytest.raises(FilesUnavailable):
        await store.read("shop", parts[0], 0, 1)
    assert await store.read("shop", other, 0, 1) == b"2"


async def test_the_disk_is_private(tmp_path: Path) -> None:
    """Files and folders are for this user alone; an empty place has no folder; a name from outside is no path."""
    pool = new_disk_pool()
    store = DiskParts(tmp_path / "files", pool)
    part = await written(store, PLACE, b"1")
    assert (tmp_path / "files" / part).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "files" / PLACE).stat().st_mode & 0o777 == 0o700
    await store.keep_only("shop", PLACE, [])
    assert not (tmp_path / "files" / PLACE).exists()
    for place in ("../x", "1/../../x", "/etc", "1/" + "g" * 32, ""):
        with pytest.raises(AssertionError):
            await store.begin("shop", place, 1)
    pool.close()


async def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without room is told from other failures, and the part leaves nothing."""
    pool = new_disk_pool()
    store = DiskParts(tmp_path / "files", pool)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", full)
        writer = await store.begin("shop", PLACE, 10)
        await writer.write(b"1")
        with pytest.raises(FilesFull):
            await writer.finish()
        await writer.abandon()
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []
    pool.close()


async def test_a_wrong_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of S3 that is not there is an absence, told without a secret; a wrong URL is a mistake of the
    configuration."""
    for name, value in {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "very-secret", "AWS_REGION": "x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(s3_parts, "ANSWER_SECONDS", 2.0)
    store = S3Parts("s3://bucket", PartMemory())
    with pytest.raises(FilesUnavailable) as away:
        await store.read("shop", PLACE + "/00", 0, 1)
    assert "very-secret" not in str(away.value)
    with pytest.raises(ConfigError):
        S3Parts("ftp://bucket", PartMemory())


async def test_memory_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part waits until there is memory for it; one site leaves room for another; the wait has an end."""
    memory = PartMemory(100, 60)
    assert await memory.take("a", 50) == 50
    waiting = asyncio.ensure_future(memory.take("a", 20))
    assert await memory.take("b", 50) == 50
    assert not waiting.done()
    await memory.give_back("a", 50)
    assert await waiting == 20
    assert await memory.take("c", 10) == 10
    monkeypatch.setattr(s3_parts, "TURN_SECONDS", 0.01)
    with pytest.raises(FilesUnavailable):
        await memory.take("c", 60)
    await memory.give_back("a", 20)
    await memory.give_back("b", 50)
    assert await memory.take("d", 1_000) == 60
