"""Fixtures of the tests of files: a site with files on the disk or in S3, served by the product's HTTP server."""

from __future__ import annotations

import base64
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.settings import Messenger
from tests.support.file_site import SITE, FileSite
from tests.support.s3 import S3Server, running_s3
from tests.support.tables import sqlite_with_tables
from tests.support.waiting import until
from tests.transport.serving import Served, serving

ANN = {"authorization": "Bearer token-ann"}
BOB = {"authorization": "Bearer token-bob"}
TUS = {"tus-resumable": "1.0.0"}
BYTES = {"content-type": "application/offset+octet-stream"}
PART_BYTES = 65_536
PATH = f"/{SITE}/files/"


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server of S3 for all tests of this process."""
    with running_s3() as server:
        yield server


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the tables, which tests copy: making the tables takes longer than a test."""
    folder = tmp_path_factory.mktemp("files")
    sqlite_with_tables(folder)
    return folder / "journal.sqlite"


@pytest.fixture
async def sql(tmp_path: Path, empty_database: Path) -> AsyncIterator[ChatSql]:
    """An empty database."""
    shutil.copy(empty_database, tmp_path / "journal.sqlite")
    sql = ChatSql.open(f"sqlite:///{tmp_path / 'journal.sqlite'}")
    yield sql
    await sql.close()


def metadata(**pairs: str) -> dict[str, str]:
    """The header with these pairs."""
    told = (f"{name} {base64.b64encode(value.encode()).decode()}".rstrip() for name, value in pairs.items())
    return {"upload-metadata": ",".join(told)}


class FilesClient:
    """A client of one site's files. Lives for a test."""

    def __init__(self, site: FileSite, served: Served, http: httpx.AsyncClient) -> None:
        """Speak to the server as Ann."""
        self.site = site
        self.served = served
        self.http = http

    async def ask(
        self, method: str, path: str = PATH, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> httpx.Response:
        """Send one request; a header "" leaves a usual one out."""
        told = {**ANN, **TUS, **(headers or {})}
        kept = {name: value for name, value in told.items() if value}
        return await self.http.request(method, path, content=body, headers=kept)

    async def create(self, size: int, **pairs: str) -> str:
        """Begin an upload; return its path."""
        headers = {"upload-length": str(size), **(metadata(**pairs) if pairs else {})}
        answer = await self.ask("POST", PATH, headers)
        assert answer.status_code == 201, answer.text
        location: str = answer.headers["location"]
        return location

    async def patch(
        self, path: str, offset: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send bytes of an upload."""
        return await self.ask("PATCH", path, {"upload-offset": str(offset), **BYTES, **(headers or {})}, body)

    async def upload(self, data: bytes, **pairs: str) -> str:
        """Upload a whole file; return its path."""
        path = await self.create(len(data), **pairs)
        for start in range(0, len(data), PART_BYTES):
            answer = await self.patch(path, start, data[start : start + PART_BYTES])
            assert answer.status_code == 204, answer.text
        return path

    async def offset(self, path: str) -> int:
        """Return the offset that the server tells."""
        answer = await self.ask("HEAD", path)
        assert answer.status_code == 200, answer.status_code
        return int(answer.headers["upload-offset"])

    def id_of(self, path: str) -> str:
        """Return the id of a file."""
        return path.rpartition("/")[2]


@contextlib.asynccontextmanager
async def files_of(sql: ChatSql, folder: Path, settings: Messenger, **site: Any) -> AsyncIterator[FilesClient]:
    """Serve the files of a site for the length of a `with`."""
    files = FileSite(sql, folder, settings, **site)
    async with (
        serving(files) as served,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", timeout=30) as http,
    ):
        yield FilesClient(files, served, http)
        # The row of a transfer follows the answer.
        await until(lambda: not files.under_way.total(), "the last request to end")
    files.pool.close()


@pytest.fixture
async def files(sql: ChatSql, tmp_path: Path) -> AsyncIterator[FilesClient]:
    """A site whose files are on the disk, in parts of 64 KB."""
    async with files_of(sql, tmp_path, Messenger(file_part_bytes=PART_BYTES)) as client:
        yield client


@pytest.fixture(params=["disk", "s3"])
async def any_files(
    request: pytest.FixtureRequest, sql: ChatSql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FilesClient]:
    """The same, and one whose files are in S3."""
    place: bool | str = True
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        place = f"s3://{server.new_bucket()}/some/prefix"
    async with files_of(sql, tmp_path, Messenger(files=place, file_part_bytes=PART_BYTES)) as client:
        yield client
