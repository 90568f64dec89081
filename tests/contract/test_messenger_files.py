"""Contract of the messenger, "Files": two nodes behind a balancer, with files on the disk and in S3."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import httpx
import pytest

from tests.support.chat import MESSENGER, Chatting, NewDatabase, make_users
from tests.support.clients import Client
from tests.support.connector import Drivers
from tests.support.deployment import Deployment
from tests.support.s3 import running_s3

PART_BYTES = 65_536
BYTES = {"content-type": "application/offset+octet-stream"}


@pytest.fixture(scope="module", params=["sqlite, disk", "postgres, s3"])
def server(request: pytest.FixtureRequest, new_database: NewDatabase) -> Iterator[Deployment]:
    """Two nodes of this module's own, for each kind of database and of storage."""
    database, storage = request.param.split(", ")
    url = new_database(database)
    with contextlib.ExitStack() as stack:
        place: bool | str = True
        environment = {"DATABASE_URL": url}
        if storage == "s3":
            s3 = stack.enter_context(running_s3())
            place, environment = f"s3://{s3.new_bucket()}/files", environment | s3.environment
        sites = {"team": {"apiKey": "k", "messenger": {**MESSENGER, "files": place, "file_part": PART_BYTES}}}
        make_users(url, "team", ["ann", "bob", "eve"])
        deployment = Deployment(sites, environment=environment, nodes=2)
        yield deployment
        deployment.end()


@pytest.fixture
def team(server: Deployment, drivers: Drivers) -> Iterator[Chatting]:
    """The clients of one test."""
    chatting = Chatting(server, drivers, "team")
    yield chatting
    chatting.close()


def session_of(client: Client) -> dict[str, str]:
    """The headers with the session of a client that has logged in."""
    token = client.wait_event("_settings").args[0]["session"]
    return {"authorization": f"Bearer {token}", "tus-resumable": "1.0.0"}


def upload(server: Deployment, headers: dict[str, str], data: bytes) -> str:
    """Upload a file, each part to any node; return its path."""
    made = server.post("/team/files/", headers=headers | {"upload-length": str(len(data))})
    assert made.status_code == 201, made.text
    path = made.headers["location"]
    for start in range(0, len(data), PART_BYTES):
        told = server.request("HEAD", path, headers=headers)
        assert told.headers["upload-offset"] == str(start)
        part = headers | BYTES | {"upload-offset": str(start)}
        answer = server.request("PATCH", path, headers=part, content=data[start : start + PART_BYTES])
        assert answer.status_code == 204, answer.text
    return str(path)


def test_any_node_takes_and_serves_files(team: Chatting, server: Deployment) -> None:
    """A session of Socket.IO counts for files on every node, for all of a file and for a range; so does a link."""
    data = random.randbytes(3 * PART_BYTES + 5)
    client = team.login("ann", "phone")
    headers = session_of(client)
    path = upload(server, headers, data)
    link = client.ask("file_link", {"id": path.rpartition("/")[2]})
    assert link["ok"], link
    for node in team.nodes:
        assert node.get(path, headers=headers).content == data
        assert node.get(link["url"]).content == data
        part = node.get(path, headers=headers | {"range": "bytes=65530-65549"})
        assert (part.status_code, part.content) == (206, data[65_530:65_550])
        assert node.get(path).status_code == 401
        assert node.get(path, headers={"authorization": "Bearer " + "x" * 43}).status_code == 401


def test_a_file_of_another_user(team: Chatting, server: Deployment) -> None:
    """The file of another user is as none, and gets no link."""
    path = upload(server, session_of(team.login("ann", "phone")), b"12345")
    bob = team.login("bob", "desk")
    of_bob = session_of(bob)
    for method in ("GET", "HEAD", "PATCH", "DELETE"):
        more = BYTES | {"upload-offset": "5"}
        assert server.request(method, path, headers=of_bob | more).status_code == 404
    refused = bob.ask("file_link", {"id": path.rpartition("/")[2]})
    assert refused["error"]["code"] == "unknown_file"


def test_a_killed_node(team: Chatting, server: Deployment) -> None:
    """A node is killed while a request brings bytes: the other one tells the offset that is durable, takes the
    rest, and serves all of it."""
    data = random.randbytes(2 * PART_BYTES)
    headers = session_of(team.login("ann", "killed"))
    dying, living = team.nodes
    path = living.post("/team/files/", headers=headers | {"upload-length": str(len(data))}).headers["location"]
    first = headers | BYTES | {"upload-offset": "0"}
    assert dying.request("PATCH", path, headers=first, content=data[:PART_BYTES]).status_code == 204

    def cut_body() -> Iterator[bytes]:
        yield data[PART_BYTES : PART_BYTES + 30_000]
        dying.kill()
        yield data[PART_BYTES + 30_000 :]

    with pytest.raises(httpx.HTTPError):
        dying.request("PATCH", path, headers=first | {"upload-offset": str(PART_BYTES)}, content=cut_body())
    try:
        assert living.request("HEAD", path, headers=headers).headers["upload-offset"] == str(PART_BYTES)
        rest = headers | BYTES | {"upload-offset": str(PART_BYTES)}
        assert living.request("PATCH", path, headers=rest, content=data[PART_BYTES:]).status_code == 204
        assert living.get(path, headers=headers).content == data
    finally:
        dying.start()


def test_a_file_in_a_message(team: Chatting, server: Deployment) -> None:
    """The users that see a message with the file read it, on every node; it stays, and is gone for them with the
    message."""
    ann, bob, eve = (team.login(login, f"{login}'s") for login in ("ann", "bob", "eve"))
    of_ann, of_bob, of_eve = session_of(ann), session_of(bob), session_of(eve)
    path = upload(server, of_ann, b"12345")
    file = path.rpartition("/")[2]
    told = {"id": "5f0a4ed4-0000-4000-8000-000000000001", "kind": "file", "text": "", "file": file}
    bob_id = bob.wait_event("_settings").args[0]["user"]["id"]
    assert server.get(path, headers=of_bob).status_code == 404
    sent = ann.ask("message", {**told, "to": {"user": bob_id}})
    assert sent["ok"], sent
    assert bob.wait_event("message").args[0]["file"]["id"] == file
    for node in team.nodes:
        assert node.get(path, headers=of_bob).content == b"12345"
        assert node.get(path, headers=of_eve).status_code == 404
    link = bob.ask("file_link", {"id": file})["url"]
    assert server.get(link).content == b"12345"
    assert server.request("DELETE", path, headers=of_ann).status_code == 403
    assert server.request("DELETE", path, headers=of_bob).status_code == 404
    assert ann.ask("delete", {"id": sent["id"]})["ok"]
    assert server.get(path, headers=of_bob).status_code == 404
    assert server.get(link).status_code == 404
    assert server.get(path, headers=of_ann).content == b"12345"
