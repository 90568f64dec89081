"""A large file through a messenger: uploaded by tus in parts of 4 MB, downloaded in ranges; the memory of the server.

`python -m bench.messenger_files [megabytes]` has one user upload and download a file, on the disk and in S3 (moto, that
keeps it in memory: a quarter of the size), and samples the resident memory of all processes of the server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from app.canary.wire import OwnPort
from app.load.chat_device import ChatDevice, ChatHearer, ChatUserLogin
from app.watched_tasks import start_logged
from bench.messenger_node import SITE, ChatNode, make_room, running_database, serving, watching_memory
from bench.processes import BenchError
from tests.support.chat import password_of
from tests.support.s3 import running_s3
from tests.support.store import running_valkey

_MB = 1_048_576
_PART_BYTES = 4 * _MB
_RANGE_BYTES = 64 * _MB
_READ_BYTES = 262_144
#: The code and the buffers that the first file loads are no cost of a large one.
_WARM_BYTES = 64 * _MB
#: The content repeats after so many parts, which differ.
_PARTS_MADE = 3


def main(arguments: argparse.Namespace) -> None:
    """Measure each store, and print the rows of the table."""
    print("| store | direction | MB | seconds | MB/s | server MB before | most | after | server CPU s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="recado-files-") as scratch:
        for store in arguments.stores:
            folder = Path(scratch) / store
            folder.mkdir()
            with contextlib.ExitStack() as stack:
                valkey = stack.enter_context(running_valkey())
                url, _ = stack.enter_context(running_database("sqlite", folder))
                place, environment = _place(store, stack)
                [login] = make_room(url, 1)
                node = stack.enter_context(serving(folder, valkey, url, environment=environment, files=place))
                megabytes = arguments.megabytes if store == "disk" else arguments.megabytes // 4
                for row in transfer(node, login, megabytes * _MB):
                    print(f"| {store} | {row} |", flush=True)


def _place(store: str, stack: contextlib.ExitStack) -> tuple[bool | str, dict[str, str]]:
    if store == "disk":
        return True, {}
    s3 = stack.enter_context(running_s3())
    return f"s3://{s3.new_bucket()}/files", s3.environment


def transfer(node: ChatNode, login: str, size: int) -> Iterator[str]:
    """Bring a file there and back; a row of the table for each direction."""
    client = FileClient(node.port, asyncio.run(_session_of(node, login)))
    warm = min(size, _WARM_BYTES)
    client.download(client.upload(warm)[0], warm)
    began = time.monotonic()
    with node.spending({}) as spent, watching_memory(node.pid) as memory:
        path, sent = client.upload(size)
    yield _row("upload", size, time.monotonic() - began, memory, spent["server"])
    began = time.monotonic()
    with node.spending({}) as spent, watching_memory(node.pid) as memory:
        received = client.download(path, size)
    if received != sent:
        raise BenchError("the file came back with other bytes")
    yield _row("download", size, time.monotonic() - began, memory, spent["server"])


def _row(direction: str, size: int, seconds: float, memory: list[float], cpu: float) -> str:
    before, after, most = memory
    rate = size / _MB / seconds
    cells = [direction, f"{size // _MB:,}", f"{seconds:.1f}", f"{rate:,.0f}", f"{before:.0f}", f"{most:.0f}"]
    return " | ".join([*cells, f"{after:.0f}", f"{cpu:.1f}"])


async def _session_of(node: ChatNode, login: str) -> str:
    device = await ChatDevice.connect(OwnPort("127.0.0.1", node.port), SITE, "measured")
    reader = start_logged(device.run(ChatHearer(lambda number: None, lambda count: None)), "device")
    try:
        await device.log_in(ChatUserLogin(login, password_of(login)))
        return device.session
    finally:
        reader.cancel()
        device.close()


class FileClient:
    """One user's program. Lives as long as the measurement."""

    def __init__(self, port: int, session: str) -> None:
        """With the token of a session."""
        self._link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"Authorization": f"Bearer {session}", "Tus-Resumable": "1.0.0"}
        self._parts = [bytes([1 + number]) * _PART_BYTES for number in range(_PARTS_MADE)]

    def upload(self, size: int) -> tuple[str, int]:
        """The path of a file of this size, and the checksum of its bytes."""
        path = self._ask("POST", f"/{SITE}/files/", 201, {"Upload-Length": str(size)}).getheader("Location") or ""
        checksum = 0
        for number, start in enumerate(range(0, size, _PART_BYTES)):
            part = self._parts[number % _PARTS_MADE][: size - start]
            checksum = zlib.crc32(part, checksum)
            head = {"Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"}
            answer = self._ask("PATCH", path, 204, head, part)
            if answer.getheader("Upload-Offset") != str(start + len(part)):
                raise BenchError(f"the part at {start} was not taken whole")
        return path, checksum

    def download(self, path: str, size: int) -> int:
        """The checksum of a file's bytes, which come range by range."""
        checksum = 0
        for start in range(0, size, _RANGE_BYTES):
            last = min(size, start + _RANGE_BYTES) - 1
            self._link.request("GET", path, headers={**self._headers, "Range": f"bytes={start}-{last}"})
            answer = self._link.getresponse()
            if answer.status != 206:
                raise BenchError(f"GET was answered {answer.status}")
            while data := answer.read(_READ_BYTES):
                checksum = zlib.crc32(data, checksum)
        return checksum

    def _ask(
        self, method: str, path: str, status: int, headers: dict[str, str], body: bytes | None = None
    ) -> http.client.HTTPResponse:
        self._link.request(method, path, body, {**self._headers, **headers})
        answer = self._link.getresponse()
        told = answer.read()
        if answer.status != status:
            raise BenchError(f"{method} was answered {answer.status}: {told[:200]!r}")
        return answer


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.messenger_files")
    parser.add_argument("megabytes", type=int, nargs="?", default=1024)
    parser.add_argument("--stores", type=lambda text: text.split(","), default=["disk", "s3"])
    return parser.parse_args(words)


if __name__ == "__main__":
    main(parse())
