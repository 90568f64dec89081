"""`recado user` and `recado room`: the directory of a messenger in the journal's database, without a server."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import insert

from app import cli
from app.config.settings import Site
from app.config.yaml_file import write_yaml
from app.protocols.messenger.journal_members import enter_all
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_rooms
from tests.support.chat import NewDatabase


class Run:
    """Runs the command on one database; `given` is piped. Lives as long as that."""

    def __init__(self, url: str, environ: dict[str, str]) -> None:
        """`environ` names the files."""
        self.url = url
        self._environ = environ

    def __call__(self, *arguments: str, given: str = "", site: str = "talk", of: str = "user", **more: str) -> Result:
        """The result of the command, or of the other one."""
        words = [of, *arguments, "--site", site]
        return CliRunner().invoke(cli.recado, words, input=given, env=self._environ | more)


def running(url: str, folders: pytest.TempPathFactory) -> Run:
    """Runs the command on a database."""
    path = folders.mktemp("users") / "sites.yml"
    block = {"apiKey": "a-key-of-the-site", "messenger": {"iterations": 4096}}
    other = {"apiKey": "another-key-of-it", "authUrl": "http://127.0.0.1/rooms"}
    path.write_text(write_yaml({"talk": block, "shop": other, "beside": {**block, **other}}))
    return Run(url, {"DATABASE_URL": url, "RECADO_SITES": str(path)})


@pytest.fixture(scope="module")
def run(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The command on a database that the tests of the module share."""
    return running(new_database("sqlite"), tmp_path_factory)


def listed(run: Run) -> list[dict[str, object]]:
    """The users as the command lists them for programs."""
    return [json.loads(line) for line in run("list", "--json").output.splitlines()]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_life_of_users(kind: str, new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Users are added with a piped or a made password, listed, disabled and enabled, and given another password."""
    run = running(new_database(kind), tmp_path_factory)
    piped = run("add", "--login", "Ana", "--admin", "--password-stdin", given="a long password\n")
    assert piped.output == "OK user Ana, id 1, admin\n"
    made = run("add", "--login", "ben", "--name", "Ben B.").output.splitlines()
    assert made[0] == "OK user ben, id 2"
    assert made[1].startswith("password: ")
    assert len(made[1]) > 30
    assert [line.split() for line in run("list").output.splitlines()] == [
        ["ID", "LOGIN", "NAME", "STATE"],
        ["1", "Ana", "Ana", "admin"],
        ["2", "ben", "Ben", "B."],
    ]
    assert run("disable", "--login", "ANA").output == "OK\n"
    assert [(one["login"], one["disabled"]) for one in listed(run)] == [("Ana", True), ("ben", False)]
    assert run("enable", "--login", "ana").output == "OK\n"
    assert not any(one["disabled"] for one in listed(run))
    changed = run("password", "--login", "ben").output.splitlines()
    assert changed[0] == "OK"
    assert changed[1].startswith("password: ")
    made_json = json.loads(run("add", "--login", "cleo", "--json").output)
    assert (made_json["id"], made_json["login"], len(made_json["password"]) > 20) == (3, "cleo", True)
    assert run("list", of="room").output.split() == ["ID", "NAME", "KIND", "MEMBERS", "STATE"]


def test_rooms(
    new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rooms are listed with their members, all of them, however many one question answers."""
    monkeypatch.setattr("app.commands.users._PAGE", 2)
    run = running(new_database("sqlite"), tmp_path_factory)
    assert run("add", "--login", "ana").exit_code == 0
    asyncio.run(make_rooms(run.url, "talk", ["a", "b", "c"]))
    assert [line.split() for line in run("list", of="room").output.splitlines()] == [
        ["ID", "NAME", "KIND", "MEMBERS", "STATE"],
        *([str(number), name, "chat", "1", "archived"] for number, name in enumerate("abc", 1)),
    ]
    shown = json.loads(run("list", "--json", of="room").output.splitlines()[-1])
    assert shown == {"id": 3, "name": "c", "kind": "chat", "archived": True, "members": 1, "admins": 1}


async def make_rooms(url: str, site: str, names: list[str]) -> None:
    """Make archived rooms with the first user as their admin."""
    sql = ChatSql.open(url)
    try:
        async with sql.writing(Site(name=site, api_key="k")) as (connection, site_id):
            for name in names:
                values = {"site_id": site_id, "name": name, "kind": "chat", "is_archived": True, "created_at": 0}
                made = insert(chat_rooms).values(**values).returning(chat_rooms.c.id)
                room = (await connection.execute(made)).scalar_one()
                await enter_all(connection, site_id, room, [1], [1])
    finally:
        await sql.close()


def test_a_password_is_asked_for_on_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the password is asked for twice, and shown nowhere."""
    monkeypatch.setattr("app.commands.users._is_terminal", lambda: True)
    asked = run("add", "--login", "cleo", given="a long password\na long password\n")
    assert asked.exit_code == 0
    assert "a long password" not in asked.output
    assert "OK user cleo, id " in asked.output


@pytest.mark.parametrize(
    ("arguments", "given", "line"),
    [
        (("add", "--login", "a\x00b"), "", "Login: expected text without control characters."),
        (("add", "--login", "ana", "--password-stdin"), "\n", "password: expected 1 to 256 characters"),
        (
            ("add", "--login", "ana", "--password-stdin"),
            "\x01\n",
            "Password: expected text without control characters.",
        ),
        (("disable", "--login", "eve"), "", "there is no user 'eve'"),
        (("password", "--login", "eve"), "", "there is no user 'eve'"),
    ],
)
def test_failures(run: Run, arguments: tuple[str, ...], given: str, line: str) -> None:
    """A failure is one line."""
    result = run(*arguments, given=given)
    assert (result.exit_code, result.output.rstrip(".\n")) == (1, f"recado: {line.rstrip('.')}")


def test_a_login_that_is_taken(run: Run) -> None:
    """A second user of a login, in whatever case, is refused."""
    assert run("add", "--login", "dora").exit_code == 0
    again = run("add", "--login", "DORA")
    assert (again.exit_code, again.output) == (1, "recado: Login: expected one that no user has.\n")


def test_a_site_without_a_messenger(run: Run) -> None:
    """The failure names the site, and without a journal the setting."""
    wrong = run("list", site="shop")
    assert (wrong.exit_code, "with a messenger, not 'shop'" in wrong.output) == (1, True)
    without = run("list", DATABASE_URL="none")
    assert (without.exit_code, "database" in without.output) == (2, True)


def test_a_site_beside_a_backend_gets_no_users(run: Run) -> None:
    """The users of such a site are its backend's."""
    refused = run("add", "--login", "ana", site="beside")
    assert refused.exit_code != 0
    assert "backend" in refused.output
    assert run("list", "--json", site="beside").output == ""
