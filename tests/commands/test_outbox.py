"""`recado outbox`: its SQL, its lists, its ends, and a DSN that is nowhere."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner, Result

from app import cli
from app.outbox.schema import install_sql
from tests.support.outbox import ReaderProcess, new_outbox, send
from tests.support.ports import free_port
from tests.support.postgres import Postgres

HIDDEN = "s3cr3t-word"


@pytest.fixture(scope="module")
def dsn(shared_postgres: Postgres) -> str:
    """A database with an outbox."""
    return asyncio.run(new_outbox(shared_postgres))


def run(*arguments: str, **environ: str) -> Result:
    """The result of the command."""
    return CliRunner().invoke(cli.recado, ["outbox", *arguments], env=environ)


def test_sql() -> None:
    """The SQL is printed for the schema and the roles that are named."""
    assert run("sql").output == install_sql("public", "recado_outbox_sender", "recado_outbox_reader")
    named = run("sql", "--schema", "push", "--sender", "app", "--reader", "reader").output
    assert named == install_sql("push", "app", "reader")


async def park(dsn: str) -> int:
    """Send a message, set it aside, and send one more; return the number of the first."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("TRUNCATE recado_outbox, recado_outbox_place")
        number = await send(connection, ["user_8", "b"])
        await connection.execute("UPDATE recado_outbox_place SET state = 2, reason = '400: no such thing'")
        await send(connection, ["c"])
        return number
    finally:
        await connection.close()


def test_list_and_retry(dsn: str) -> None:
    """Parked messages are listed with the reason, and wait again after `retry`."""
    number = asyncio.run(park(dsn))
    heads, line = run("list", RECADO_OUTBOX_DSN=dsn).output.splitlines()
    assert heads.split() == ["ID", "CREATED", "SITE", "ROOMS", "EVENT", "BYTES", "TRIES", "REASON"]
    assert line.split()[0] == str(number)
    assert line.split()[2:5] == ["shop", "user_8,b", "n"]
    assert line.endswith("400: no such thing")
    assert len(run("list", "--dsn", dsn, "--site", "news").output.splitlines()) == 1
    assert len(run("list", "--dsn", dsn, "--waiting").output.splitlines()) == 2
    assert run("retry", "--id", "0", RECADO_OUTBOX_DSN=dsn).output == "OK 0 messages wait again\n"
    assert run("retry", "--site", "shop", RECADO_OUTBOX_DSN=dsn).output == "OK 1 messages wait again\n"
    assert len(run("list", "--dsn", dsn, "--waiting").output.splitlines()) == 3
    number = asyncio.run(park(dsn))
    assert run("discard", RECADO_OUTBOX_DSN=dsn).stderr == "recado: expected --id, --site or --all\n"
    assert run("discard", "--id", str(number), RECADO_OUTBOX_DSN=dsn).output == "OK 1 messages are given up\n"
    assert run("discard", "--all", RECADO_OUTBOX_DSN=dsn).output == "OK 0 messages are given up\n"


def test_wrong_calls(shared_postgres: Postgres) -> None:
    """Without a DSN, a site, or an outbox there is one line, and no part of the DSN in it."""
    assert run("list").stderr == "recado: expected RECADO_OUTBOX_DSN, or --dsn, such as postgresql://user@host/name\n"
    assert run("--dsn", "x", "list").stderr == "recado: dsn: expected options behind 'list'\n"
    assert run("--site", "a", RECADO_OUTBOX_DSN="x").stderr.startswith(
        "recado: there is no site to send to: expected --site"
    )
    wrong = run("list", "--dsn", f"postgresql://u:{HIDDEN}@h:port/d")
    assert (wrong.exit_code, wrong.output) == (
        2,
        "recado: RECADO_OUTBOX_DSN: expected a URL such as postgresql://user@host/name\n",
    )
    empty = run("list", "--dsn", shared_postgres.new_database())
    assert empty.exit_code == 1
    assert "`recado outbox sql` prints the SQL that makes the outbox" in empty.stderr


def test_the_command_ends(dsn: str, tmp_path: Path) -> None:
    """A reader ends with 0 at SIGTERM, and with 1 and a line where there is no outbox; the DSN is in no line."""
    asyncio.run(park(dsn))
    key = {"API_KEY": HIDDEN}
    url = f"http://127.0.0.1:{free_port()}"
    reader = ReaderProcess(tmp_path, dsn, "--site", "shop", "--url", url, **key)
    other = ReaderProcess(tmp_path, dsn, "--site", "shop", "--url", url, "--schema", "pg_temp", **key)
    try:
        assert reader.wait_event("outbox is read")["sites"] == ["shop"]
        reader.wait_event("outbox waits")
        reader.signal(signal.SIGTERM)
        assert reader.wait(60) == 0
        assert other.wait(60) == 1
    finally:
        reader.end()
        other.end()
    assert any("`recado outbox sql` prints" in line for line in other.lines.snapshot())
    lines = [*reader.lines.snapshot(), *other.lines.snapshot()]
    assert [line for line in lines if HIDDEN in line or "host=" in line] == []
