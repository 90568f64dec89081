"""`recado user`: users of a messenger in the journal's database, without a server."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from app import cli
from app.config.yaml_file import write_yaml
from tests.support.chat import NewDatabase

Run = Callable[..., Result]


def running(url: str, folders: pytest.TempPathFactory) -> Run:
    """Runs the command on a database; `given` is piped."""
    path = folders.mktemp("users") / "sites.yml"
    block = {"apiKey": "a-key-of-the-site", "messenger": {"iterations": 4096}}
    other = {"apiKey": "another-key-of-it", "authUrl": "http://127.0.0.1/rooms"}
    path.write_text(write_yaml({"talk": block, "shop": other}))
    environ = {"DATABASE_URL": url, "RECADO_SITES": str(path)}

    def run(*arguments: str, given: str = "", site: str = "talk", **more: str) -> Result:
        words = ["user", *arguments, "--site", site]
        return CliRunner().invoke(cli.recado, words, input=given, env=environ | more)

    return run


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
