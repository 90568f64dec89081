"""The messenger in the place of push0k: an import by the command, killed and repeated beside a node that serves, and
its users at that node."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy import text

from app.config.settings import Site
from app.journal.database import open_database
from app.protocols.messenger.settings import Messenger
from tests.support.browser import Browser
from tests.support.chat import ITERATIONS, MESSENGER, Chatting, NewDatabase, Scram, log_in, make_users, password_of
from tests.support.connector import Drivers
from tests.support.deployment import Deployment
from tests.support.postgres import running_postgres
from tests.support.push0k import PushDatabase, attach, hash_of
from tests.support.push0k_imports import Importing, same_of
from tests.support.server import clean_environment
from tests.support.waiting import eventually

ANN, BEN, CAT, EVE = "79990000001", "79990000002", "79990000003", "79990000004"
SITES = {"team": {"apiKey": "k", "messenger": MESSENGER}}
#: Some parts of messages.
MESSAGES = 700
PICTURE = b"\x89PNG" + bytes(3_000_000)


class ImportCommand:
    """`recado import push0k` into the database of a deployment. Lives as long as its module."""

    def __init__(self, source: str, target: str, folder: Path) -> None:
        """`folder` has the attachments, and gets the files and the settings."""
        self.source, self.target, self.folder = source, target, folder
        #: Everything that was there after the imports.
        self.found: dict[str, Any] = {}
        (folder / "sites.yml").write_text(yaml.safe_dump(SITES))

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start the command."""
        words = ["--site", "team", "--files", "atach", "--passwords", "first.txt", "--json", *options, self.source]
        environment = clean_environment(DATABASE_URL=self.target, REDIS_URL="redis://127.0.0.1:1")
        return subprocess.Popen(
            [sys.executable, "-m", "app", "import", "push0k", *words],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *options: str) -> dict[str, int]:
        """Run the command to its end; its counts."""
        process = self.start(*options)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        counts: dict[str, int] = json.loads(out.splitlines()[-1])["counts"]
        return counts

    def kill_behind(self, messages: int) -> None:
        """Start the command, and kill it once so many messages are there."""
        process = self.start()
        eventually(lambda: process.poll() is not None or self.count() >= messages, "messages to be there", 60)
        process.kill()
        process.communicate(timeout=10)

    def count(self) -> int:
        """The messages that are there."""

        async def ask() -> int:
            engine = open_database(self.target)
            async with engine.connect() as sql:
                found = (await sql.execute(text("SELECT count(*) FROM chat_messages"))).scalar_one()
            await engine.dispose()
            return int(found)

        return asyncio.run(ask())

    def look(self, target: str) -> dict[str, Any]:
        """Everything that is in a database."""
        return same_of(asyncio.run(self._importing(target).look()))

    def import_whole(self, target: str) -> None:
        """Import without a break, within this process."""
        asyncio.run(self._importing(target).run(self.source, self.folder / "atach"))

    def _importing(self, target: str) -> Importing:
        return Importing(
            Site(name="team", api_key="k", sections={Messenger: Messenger(iterations=ITERATIONS)}),
            target,
            self.folder / "data",
        )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """push0k's database and its attachments."""
    folder = tmp_path_factory.mktemp("old") / "atach"
    folder.mkdir()
    push = PushDatabase()
    push.user("ann", int(ANN), "777")
    push.user("ben", int(BEN), "ben's", tmppwd="ben's")
    push.user("eve", int(EVE), "eve's")
    push.user("cat", int(CAT), pwd=" ".join(["9F"] * 32))
    push.room("Lunch", ["ann", "ben"], ["ann"])
    for number in range(MESSAGES):
        push.message(f"m{number}", ("ann", "ben")[number % 2], number, roomid="Lunch", message=f"number {number}")
    push.message("file", "ann", MESSAGES, destid="ben", extdata="a.png", datatype=1, datasize=len(PICTURE))
    for number in range(0, MESSAGES, 10):
        push.connection(("ann", "ben")[number % 2], number)
        push.receipt(f"m{number}", "ben", number + 1, 1)
    attach(folder, "file", [PICTURE])
    with running_postgres() as server:
        url = server.new_database()
        push.write(url)
        yield url, folder


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def command(
    request: pytest.FixtureRequest,
    source: tuple[str, Path],
    new_database: NewDatabase,
    tmp_path_factory: pytest.TempPathFactory,
) -> ImportCommand:
    """The command, with an empty database of each kind."""
    folder = tmp_path_factory.mktemp("new")
    (folder / "atach").symlink_to(source[1])
    url = new_database(request.param)
    make_users(url, "team", ["dora"])
    return ImportCommand(source[0], url, folder)


@pytest.fixture(scope="module")
def server(command: ImportCommand) -> Iterator[Deployment]:
    """A node that serves during the imports; in the end everything is imported."""
    environment = {"DATABASE_URL": command.target}
    deployment = Deployment(SITES, {"data_dir": str(command.folder / "data")}, environment=environment)
    command.kill_behind(MESSAGES // 3)
    command.run()
    command.found = command.look(command.target)
    yield deployment
    deployment.end()


@pytest.fixture
def team(server: Deployment, drivers: Drivers) -> Iterator[Chatting]:
    """The clients of one test."""
    chatting = Chatting(server, drivers, "team")
    yield chatting
    chatting.close()


def test_kills(server: Deployment, command: ImportCommand, tmp_path: Path) -> None:
    """An import that was killed and then repeated has made what one without a kill makes. Another repetition makes
    nothing."""
    whole = f"sqlite:///{tmp_path / 'whole.sqlite'}"
    command.import_whole(whole)
    found, expected = command.found, command.look(whole)
    found["users"] = [one for one in found["users"] if one[0] != "dora"]
    assert found == expected
    assert len(found["messages"]) == MESSAGES + 1
    again = command.run()
    assert [again.get(name, 0) for name in ("users", "rooms", "messages", "receipts", "files")] == [0] * 5
    assert again["messages_there"] == MESSAGES + 1


def test_an_imported_user(team: Chatting) -> None:
    """An imported user logs in with the hash of its password, reads what was written at push0k in its order, finds a
    word, writes on, and gets its file."""
    client = team.stranger("new")
    answer = log_in(client, ANN, hash_of("777"))
    assert (answer["ok"], answer["must_change_password"]) == (True, False)
    client.wait_event("_settings")
    part = client.ask("sync", {"cursor": None, "bytes": 4_194_304})
    (room,) = (one["id"] for one in part["rooms"])
    texts = [one["text"] for one in part["messages"] if one["to"] == {"room": room}]
    assert texts == [f"number {number}" for number in range(MESSAGES)]
    newest = client.ask("history", {"with": {"room": room}, "limit": 2})["messages"]
    assert [one["text"] for one in newest] == [f"number {MESSAGES - 1}", f"number {MESSAGES - 2}"]
    assert len(client.ask("search", {"text": "number 69", "limit": 50})["messages"]) == 11
    (file,) = (one["file"] for one in part["messages"] if one["file"])
    url = f"{team.server.url}/team/files/{file['id']}"
    got = httpx.get(url, headers={"Authorization": f"Bearer {answer['session']}"})
    assert (got.content, got.headers["content-type"]) == (PICTURE, "image/png")
    sent = client.ask("message", {"id": "after", "to": {"room": room}, "kind": "text", "text": "here again"})
    assert sent["id"] > newest[0]["id"]
    # A user without such a file gets none.
    other = team.login("dora")
    session = other.wait_event("_settings").args[0]["session"]
    assert httpx.get(url, headers={"Authorization": f"Bearer {session}"}).status_code == 404


def test_passwords_that_have_to_change(team: Chatting, command: ImportCommand) -> None:
    """A password that an admin has set at push0k, and one that was made because the hash has another form, have to be
    changed first."""
    first = dict(line.split("\t") for line in (command.folder / "first.txt").read_text().splitlines())
    for login, password in ((BEN, hash_of("ben's")), (CAT, first[CAT])):
        answer = log_in(team.stranger(login), login, password)
        assert (answer["ok"], answer["must_change_password"]) == (True, True), login


def test_answers_tell_nobody(team: Chatting) -> None:
    """The answer to `login` has the same form for an imported user, for another one, and for a login that nobody
    has; a proof of another form is not tried."""
    client = team.stranger()
    for login in (ANN, CAT, "dora", "nobody"):
        scram = Scram(login, "wrong")
        first = client.ask("login", {"data": scram.first})
        assert (sorted(first), first["forms"]) == (["data", "forms", "ok"], ["push0k"]), login
        assert len(first["data"]) == len(client.ask("login", {"data": Scram("nobody", "x").first})["data"])
    right = Scram("dora", password_of("dora"))
    first = client.ask("login", {"data": right.first})
    final = right.final(first["data"])
    answer = client.ask("proof", {"data": final[:-8] + "AAAAAAA=", "forms": {"push0k": final}})
    assert answer["error"]["code"] == "wrong_login"


def test_the_client_for_pages(server: Deployment, browser: Browser, command: ImportCommand) -> None:
    """A page logs an imported user in with its old password alone, and sets another one; then that one counts."""
    page = browser.open(f"{server.url}/healthcheck")
    body = """(async () => {
        await new Promise((done) => document.head.append(Object.assign(document.createElement("script"),
          { src: "/socket.io/socket.io.js?v=4", onload: done })));
        const { Messenger } = await import("/recado/messenger.js");
        const chat = new Messenger({ site: "team" });
        const found = [await chat.login(LOGIN, "no").catch((error) => error.code)];
        found.push((await chat.login(LOGIN, "eve's")).login);
        await chat.changePassword("eve's", "another one");
        await chat.logout();
        found.push(await chat.login(LOGIN, "eve's").catch((error) => error.code));
        found.push((await chat.login(LOGIN, "another one")).login);
        return found;
    })()""".replace("LOGIN", json.dumps(EVE))
    found = page.evaluate(body)
    page.close()
    assert found == ["wrong_login", EVE, "wrong_login", EVE]
