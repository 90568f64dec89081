"""A stored site with a messenger that is removed: its files, messages, users and sessions are gone, also for a later
site of the same name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.protocols.messenger.journal_store import ChatSql
from tests.protocols.messenger.test_journal_removal import rows_of
from tests.support.chat import MESSENGER, Chatting, log_in, make_users
from tests.support.connector import Drivers
from tests.support.deployment import Deployment
from tests.support.operating import Operator
from tests.support.store import make_site
from tests.support.waiting import eventually

NAME = "later"
BLOCK = {"apiKey": "k" * 20, "messenger": MESSENGER}
CONTENT = b"the content of a file that nobody may read any more"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The database of this module."""
    return f"sqlite:///{tmp_path_factory.mktemp('removed') / 'journal.sqlite'}"


@pytest.fixture(scope="module")
def server(url: str) -> Iterator[Deployment]:
    """One node, with a messenger of sites.yml that stays."""
    deployment = Deployment({"stays": {"apiKey": "k", "messenger": MESSENGER}}, environment={"DATABASE_URL": url})
    yield deployment
    deployment.end()


@pytest.fixture
def team(server: Deployment, drivers: Drivers) -> Iterator[Chatting]:
    """The clients of the stored site."""
    chatting = Chatting(server, drivers, NAME)
    yield chatting
    chatting.close()


def files_with(folder: Path, content: bytes) -> list[Path]:
    """The files below a folder with this content."""
    return [path for path in folder.rglob("*") if path.is_file() and content in path.read_bytes()]


def rows_left(url: str) -> Any:
    """The rows of the site."""

    async def read() -> Any:
        sql = ChatSql.open(url)
        try:
            return await rows_of(sql, make_site(NAME))
        finally:
            await sql.close()

    return asyncio.run(read())


def test_nothing_is_left(server: Deployment, url: str, team: Chatting) -> None:
    """After the removal no request finds the file, its content is on no disk and nothing of the site in SQL; in a later
    site of that name old sessions, links and passwords count for nothing. Another site keeps all."""
    operator = Operator(url, server.redis.url)
    operator.add(NAME, BLOCK)
    ids = make_users(url, NAME, ["ann", "bob"])
    make_users(url, "stays", ["ann"])
    eventually(lambda: server.request("OPTIONS", f"/{NAME}/files/").status_code == 204, "the site to be served")
    ann = team.login("ann", "phone")
    session = ann.wait_event("_settings").args[0]["session"]
    headers = {"authorization": f"Bearer {session}", "tus-resumable": "1.0.0"}
    body = {"content-type": "application/offset+octet-stream", "upload-length": str(len(CONTENT))}
    made = server.request("POST", f"/{NAME}/files/", headers=headers | body, content=CONTENT)
    path = made.headers["location"]
    unfinished = server.post(f"/{NAME}/files/", headers=headers | {"upload-length": "9"}).headers["location"]
    told = {"id": "1", "to": {"user": ids["bob"]}, "text": "x", "file": path.rpartition("/")[2]}
    assert ann.ask("message", told)["ok"]
    link = ann.ask("file_link", {"id": path.rpartition("/")[2]})["url"]
    assert server.get(link).content == CONTENT
    assert len(files_with(server.directory, CONTENT)) == 1

    operator.remove(NAME)
    ann.wait_disconnected()
    eventually(lambda: operator.state(NAME) == "gone", "the end of the removal", 60)
    assert files_with(server.directory, CONTENT) == []
    assert rows_left(url) == {}

    def refusals() -> set[int]:
        asked = [(path, headers), (path, headers | {"range": "bytes=0-3"}), (unfinished, headers), (link, {})]
        return {server.request(way, one, headers=told).status_code for way in ("GET", "HEAD") for one, told in asked}

    assert refusals() <= {401, 404}
    operator.add(NAME, BLOCK)
    eventually(lambda: server.request("OPTIONS", f"/{NAME}/files/").status_code == 204, "the later site")
    assert refusals() <= {401, 404}
    assert team.begin(team.call("phone", session=session)).wait_refused() == "session_void"
    assert log_in(team.stranger("phone"), "ann")["error"]["code"] == "wrong_login"
    make_users(url, NAME, ["ann"])
    again = team.login("ann", "phone")
    found = again.ask("sync", {"cursor": None})
    assert [one["login"] for one in found["users"]] == ["ann"]
    assert (found["messages"], found["rooms"]) == ([], [])
