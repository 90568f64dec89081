"""`recado operator`: operators in the journal's database, without a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app import cli

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command on an empty database; `given` is typed."""
    monkeypatch.chdir(tmp_path)
    environ = {"DATABASE_URL": f"sqlite:///{tmp_path / 'journal.sqlite'}", "RECADO_OPERATOR_PASSWORD": ""}

    def run(*arguments: str, given: str = "", **more: str) -> Result:
        return CliRunner().invoke(cli.recado, ["operator", *arguments], input=given, env=environ | more)

    return run


def test_the_life_of_operators(run: Run) -> None:
    """Operators are added with a typed or a random password, listed, given another password, and removed."""
    typed = "a long password\na long password\n"
    assert run("add", "--role", "admin", "ana", given=typed).output.endswith(
        "OK operator ana, role admin, every site\n"
    )
    added = run("add", "--site", "shop", "--site", "news", "--role", "viewer", "--random-password", "ben").output
    assert added.startswith("OK operator ben, role viewer, shop, news\npassword: ")
    assert len(added.split()[-1]) >= 24
    assert [line.split() for line in run("list").output.splitlines()] == [
        ["NAME", "ROLE", "SITES", "LAST", "USE"],
        ["ana", "admin", "every", "site", "never"],
        ["ben", "viewer", "news,", "shop", "never"],
    ]
    assert run("password", "ana", RECADO_OPERATOR_PASSWORD="another password").output == "OK\n"
    assert run("remove", "ben").output == "OK\n"
    assert "ben" not in run("list").output


@pytest.mark.parametrize(
    ("arguments", "password", "line"),
    [
        (("add", "a b"), "a long password", "NAME: expected at most 64 letters"),
        (("add", "ana"), "short", "password: expected 10 to 256 characters"),
        (("remove", "eve"), "", "there is no operator 'eve'"),
        (("password", "eve"), "a long password", "there is no operator 'eve'"),
    ],
)
def test_failures(run: Run, arguments: tuple[str, ...], password: str, line: str) -> None:
    """A failure is one line."""
    result = run(*arguments, RECADO_OPERATOR_PASSWORD=password)
    assert (result.exit_code, line in result.output) == (1, True)


def test_a_name_that_is_taken(run: Run) -> None:
    """A second operator of a name is refused."""
    assert run("add", "ana", RECADO_OPERATOR_PASSWORD="a long password").exit_code == 0
    again = run("add", "ana", RECADO_OPERATOR_PASSWORD="a long password")
    assert (again.exit_code, "there is an operator 'ana'" in again.output) == (1, True)


def test_without_a_database(run: Run) -> None:
    """Without a journal the failure names the setting."""
    result = run("list", DATABASE_URL="none")
    assert (result.exit_code, "DATABASE_URL" in result.output) == (1, True)
