"""tus-js-client as a client of another origin than this code: it uploads, loses connections and goes on."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.protocols.messenger.files.conftest import ANN, PART_BYTES, PATH, FilesClient
from tests.protocols.messenger.files.test_endpoint import transfers_of
from tests.support.node_clients import install_clients
from tests.support.processes import REPOSITORY

_CLIENTS = REPOSITORY / "tests/clients"


async def run(files: FilesClient, path: Path, session: str = "token-ann", **task: Any) -> dict[str, Any]:
    """Run the client; return what it tells."""
    await asyncio.to_thread(install_clients)
    base = f"http://127.0.0.1:{files.served.port}"
    told = {"endpoint": base + PATH, "session": session, "path": str(path), **task}
    process = await asyncio.create_subprocess_exec(
        "node", "tus.js", json.dumps(told), cwd=_CLIENTS, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    answer: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
    return answer


def a_file(tmp_path: Path, size: int) -> tuple[Path, bytes]:
    """A file with random bytes."""
    data, path = random.randbytes(size), tmp_path / "sent.bin"
    path.write_bytes(data)
    return path, data


async def received(files: FilesClient, told: dict[str, Any]) -> tuple[bytes, str]:
    """The bytes that the server gives back, and their Content-Disposition."""
    answer = await files.http.get(told["url"], headers=ANN)
    return answer.content, answer.headers["content-disposition"]


async def test_upload_in_parts(any_files: FilesClient, tmp_path: Path) -> None:
    """The client uploads in parts of the size that the server takes, with name and type."""
    path, data = a_file(tmp_path, 5 * PART_BYTES + 3)
    options = {"chunkSize": PART_BYTES, "metadata": {"filename": "bild ä.png", "filetype": "image/png"}}
    told = await run(any_files, path, options=options)
    assert (told["kind"], told["retries"]) == ("done", 0)
    content, way = await received(any_files, told)
    assert content == data
    assert way == "inline; filename=\"bild a.png\"; filename*=UTF-8''bild%20%C3%A4.png"


async def test_upload_without_parts(files: FilesClient, tmp_path: Path) -> None:
    """A client that sends everything at once gets it through: each request is taken up to a part."""
    path, data = a_file(tmp_path, 4 * PART_BYTES + 3)
    told = await run(files, path, options={"chunkSize": 1 << 30})
    assert told["kind"] == "done", told
    assert (await received(files, told))[0] == data
    assert [int(offset) for method, offset in told["requests"] if method == "PATCH"][:2] == [0, PART_BYTES]


async def test_bytes_with_the_creation(files: FilesClient, tmp_path: Path) -> None:
    """The client sends the first part with the creation."""
    path, data = a_file(tmp_path, 2 * PART_BYTES)
    told = await run(files, path, options={"chunkSize": PART_BYTES, "uploadDataDuringCreation": True})
    assert [method for method, _ in told["requests"]] == ["POST", "PATCH"]
    assert (await received(files, told))[0] == data


async def test_connections_that_are_cut(any_files: FilesClient, tmp_path: Path) -> None:
    """A client whose connection is cut twice asks for the offset each time, and goes on behind the stored bytes."""
    path, data = a_file(tmp_path, 8 * PART_BYTES)
    cuts = [2 * PART_BYTES + 100, 5 * PART_BYTES + 100]
    told = await run(any_files, path, options={"chunkSize": PART_BYTES}, cutAt=cuts)
    assert (told["kind"], told["cuts"]) == ("done", 2)
    assert [method for method, _ in told["requests"]].count("HEAD") >= 2
    assert (await received(any_files, told))[0] == data
    (row,) = [row for row in await transfers_of(any_files) if row.kind == "upload"]
    assert (row.is_resumed, row.bytes) == (True, len(data))


async def test_a_later_client_goes_on(files: FilesClient, tmp_path: Path) -> None:
    """An upload that was stopped goes on in another process, from the bytes that are stored."""
    path, data = a_file(tmp_path, 6 * PART_BYTES)
    first = await run(files, path, options={"chunkSize": PART_BYTES}, abortAt=3 * PART_BYTES)
    assert first["kind"] == "aborted"
    second = await run(files, path, options={"chunkSize": PART_BYTES}, uploadUrl=first["url"])
    assert second["kind"] == "done"
    assert second["requests"][0][0] == "HEAD"
    assert int(second["requests"][1][1]) >= PART_BYTES
    assert (await received(files, second))[0] == data


async def test_termination(files: FilesClient, tmp_path: Path) -> None:
    """The client terminates its upload."""
    path, _ = a_file(tmp_path, PART_BYTES)
    told = await run(files, path)
    assert (await run(files, path, uploadUrl=told["url"], terminate=True))["kind"] == "terminated"
    assert (await files.http.get(told["url"], headers=ANN)).status_code == 404


@pytest.mark.parametrize("status", [401, 413])
async def test_refusals_are_final(files: FilesClient, tmp_path: Path, status: int) -> None:
    """The client gives up at once when its session does not count, or its file is too large."""
    path, _ = a_file(tmp_path, 10)
    task: dict[str, Any] = {"session": "wrong"} if status == 401 else {"options": {"uploadSize": 1 << 31}}
    told = await run(files, path, **task)
    assert (told["kind"], told["status"], told["requests"]) == ("failed", status, [["POST", None]])
