"""The memory of a node while a large file goes through it, up and down, on the disk and in S3."""

from __future__ import annotations

import hashlib
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.protocols.messenger.files.conftest import ANN, BYTES, PATH, TUS
from tests.support.processes import REPOSITORY, ChildProcess, resident_bytes
from tests.support.s3 import S3Server

PART_BYTES = 4_194_304
#: Past what the first parts need: buffers of the interpreter, of the allocator, and of one part on its way to S3.
MOST_GROWTH_BYTES = {"disk": 12_000_000, "s3": 24_000_000}


@pytest.fixture(params=["disk", "s3"])
def storage(request: pytest.FixtureRequest) -> str:
    """The kind of storage."""
    kind: str = request.param
    return kind


@pytest.fixture
def node(storage: str, request: pytest.FixtureRequest, tmp_path: Path, empty_database: Path) -> Iterator[ChildProcess]:
    """A process of its own that serves files."""
    environment, place = dict(os.environ), ""
    if storage == "s3":
        server: S3Server = request.getfixturevalue("s3")
        environment |= server.environment
        place = f"s3://{server.new_bucket()}/files"
    url = f"sqlite:///{tmp_path / 'journal.sqlite'}"
    (tmp_path / "journal.sqlite").write_bytes(empty_database.read_bytes())
    command = [sys.executable, "-m", "tests.support.file_site", url, place, str(tmp_path), str(PART_BYTES)]
    process = ChildProcess("files", command, REPOSITORY, environment)
    yield process
    process.end()


@pytest.mark.alone
def test_memory_is_flat(
    node: ChildProcess, storage: str, is_long: bool, tell: Callable[[str], None], chance: random.Random
) -> None:
    """A file of many parts goes through a node whose memory does not grow with its size."""
    line = node.lines.wait_for(lambda line: line.startswith("port "), "the port", 30)
    parts = 50 if is_long else 6
    piece = chance.randbytes(PART_BYTES)
    with httpx.Client(base_url=f"http://127.0.0.1:{line.split()[1]}", timeout=60) as client:
        path = client.post(PATH, headers=ANN | TUS | {"upload-length": str(parts * PART_BYTES)}).headers["location"]
        seen = []
        for number in range(parts):
            headers = ANN | TUS | BYTES | {"upload-offset": str(number * PART_BYTES)}
            assert client.patch(path, headers=headers, content=piece).status_code == 204
            seen.append(resident_bytes(node.pid))
        digest = hashlib.sha256()
        with client.stream("GET", path, headers=ANN) as answer:
            for data in answer.iter_bytes(PART_BYTES):
                digest.update(data)
                seen.append(resident_bytes(node.pid))
    assert digest.digest() == hashlib.sha256(piece * parts).digest()
    growth = max(seen) - seen[1]
    tell(f"{storage}: {parts * PART_BYTES // 1_000_000} MB up and down, memory grew by {growth / 1_000_000:.1f} MB")
    assert growth < MOST_GROWTH_BYTES[storage]
