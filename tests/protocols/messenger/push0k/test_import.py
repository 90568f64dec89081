"""An import of push0k into both databases: what comes along, what does not, breaks and repetitions."""

from __future__ import annotations

import random
import tracemalloc
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.config.settings import Site
from app.errors import ConfigError
from app.journal.database import JournalUnavailable, open_database
from app.protocols.messenger.answers import ChatUnavailable
from app.protocols.messenger.push0k import importing
from app.protocols.messenger.push0k.importing import PushImport
from app.protocols.messenger.push0k.journal_source import open_source
from tests.support.postgres import Postgres
from tests.support.push0k import PushDatabase, attach, ms_of, uuid_of
from tests.support.push0k_imports import LARGE, SMALL, Importing, filled, same_of

ANN, BEN, CAT, EVE = "79990000001", "79990000002", "79990000003", "79990000005"
SMALL_FILE = ["small.txt", "text/plain", len(SMALL), sha256(SMALL).hexdigest()]
LARGE_FILE = ["large.bin", "application/octet-stream", len(LARGE), sha256(LARGE).hexdigest()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The attachments."""
    return tmp_path_factory.mktemp("atach")


@pytest.fixture(scope="module")
def source(shared_postgres: Postgres, folder: Path) -> str:
    """The URL of a database of push0k with a bit of everything."""
    url = shared_postgres.new_database()
    filled(folder).write(url)
    return url


@pytest.fixture
def target(site: Site, database_url: str, tmp_path: Path) -> Importing:
    """An empty site."""
    return Importing(site, database_url, tmp_path)


def named(*names: str) -> list[str | None]:
    """The ids of messages."""
    return [uuid_of(name) for name in names]


async def test_people(target: Importing, source: str) -> None:
    """Users keep names, flags and passwords, and have one login each; rooms have their members that are known; only
    contacts that somebody has changed come along; each device is one of its user."""
    outcome = await target.run(source)
    found = await target.look()
    assert sorted(found["users"]) == [
        (ANN, "ann", "here", "data:image/png;base64,AA", False, False, "push0k"),
        (f"{ANN}-2", "dan", "", "", False, False, "push0k"),
        (BEN, "ben", "", "", False, True, "push0k"),
        (CAT, "cat", "", "", True, False, "push0k"),
        (EVE, f"+{EVE}", "", "", False, True, "scram"),
    ]
    assert target.passwords.keys() == {EVE}
    assert sorted(found["rooms"]) == sorted(
        [
            ("Administrators", "admins", "", False, None, [(ANN, True)]),
            ("Lunch", "chat", "", False, uuid_of("order"), [(ANN, False), (BEN, True), (EVE, False)]),
            ("Old", "chat", "gone", True, None, [(ANN, False), (CAT, False)]),
        ]
    )
    assert found["contacts"] == [(ANN, BEN, "Benny", True, False), (BEN, CAT, None, False, True)]
    assert found["devices"] == [(ANN, uuid_of("ann's"), "Ann's PC", "Windows"), (BEN, uuid_of("ben's"), "", "")]
    counts = outcome.counts
    assert (counts["users"], counts["rooms"], counts["members"], counts["contacts"]) == (5, 3, 6, 2)
    told = "\n".join(target.notes)
    assert f"user 'dan' logs in as {ANN}-2: {ANN} is taken" in told
    assert "the icon has more than 16384 characters" in told
    assert "room 'Lunch': 1 members are left out" in told


async def test_messages(target: Importing, source: str, folder: Path) -> None:
    """Messages come in their order with texts, replies, forwards, files, devices and receipts. A message behind a block
    is seen by its sender alone; one without a sender or an addressee is left out, and told by its id."""
    outcome = await target.run(source, folder)
    found = await target.look()
    messages = {(one["id"], one["from"]): one for one in found["messages"]}
    order = ["m1", "m2", "m3", "m3", "early", "f1", "f2", "f3", "w1", "w2", "long", "emoji", "late"]
    assert [one["id"] for one in found["messages"]] == named(*order)
    first, second = messages[uuid_of("m1"), ANN], messages[uuid_of("m2"), BEN]
    assert first["text"] == "hello **Ben** & co\nnext"
    assert (first["to"], first["at"], first["device"]) == (BEN, ms_of(1), uuid_of("ann's"))
    assert second["text"].endswith(" ann\n> hello\nyes")
    assert second["text"].startswith("> [#")
    assert second["reply"] == (uuid_of("m1"), ANN)
    link = messages[uuid_of("m3"), BEN]
    assert (link["kind"], link["text"], link["to"]) == ("link", "https://a.example/", "Lunch")
    assert messages[uuid_of("m3"), ANN]["text"] == "the same id by another user"
    assert messages[uuid_of("emoji"), EVE]["text"] == "\U0001f600 \ufffd \u2028"
    long = messages[uuid_of("long"), ANN]
    assert (long["kind"], long["text"], long["data"]) == ("push0k-4", "w" * 16_384, '{"push0k":"own"}')
    withheld = {key[0]: one["withheld"] for key, one in messages.items() if key[1] == CAT}
    assert withheld == {uuid_of("early"): False, uuid_of("late"): True}
    files = {name: messages[uuid_of(name), user]["file"] for name, user in
             (("f1", ANN), ("f2", BEN), ("f3", BEN), ("w1", ANN), ("w2", EVE))}  # fmt: skip
    assert {name: file and list(file) for name, file in files.items()} == {
        "f1": SMALL_FILE, "f2": LARGE_FILE, "f3": None, "w1": SMALL_FILE, "w2": SMALL_FILE
    }  # fmt: skip
    assert messages[uuid_of("w2"), EVE]["forward"] == (uuid_of("w1"), ANN)
    assert found["receipts"] == sorted(
        [((uuid_of("m1"), ANN), BEN, ms_of(2), ms_of(3)), ((uuid_of("m2"), BEN), ANN, ms_of(2), 0),
         ((uuid_of("m3"), BEN), ANN, ms_of(8), 0)]
    )  # fmt: skip
    counts = outcome.counts
    assert (counts["messages"], counts["files"], counts["missing_files"], counts["messages_left_out"]) == (13, 2, 1, 2)
    told = "\n".join(target.notes)
    assert f"{uuid_of('f3')}.json is not there" in told
    assert f"message {uuid_of('nowhere')}: left out, its addressee is unknown" in told
    assert f"message {uuid_of('fault')}: left out, its sender is unknown" in told
    # A repetition finds everything there.
    again = await target.run(source, folder)
    assert await target.look() == found
    made = ("users", "rooms", "contacts", "messages", "receipts", "files", "first_passwords")
    assert [again.counts[name] for name in made] == [0] * len(made)


@pytest.mark.parametrize("kind", ["before", "after"])
async def test_any_break(
    target: Importing, source: str, chance: random.Random, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """An import that breaks before or after any of its commits goes on from there: in the end everything is as without
    the break."""
    for name, value in (("_ROWS", 2), ("_USERS", 2), ("_TRIES", 1)):
        monkeypatch.setattr(importing, name, value)
    commits, commit = [0], PushImport._commit
    breaks = sorted(chance.sample(range(1, 18), 2))

    async def broken(self: PushImport, work: Any) -> None:
        commits[0] += 1
        if kind == "after":
            await commit(self, work)
        if commits[0] in breaks:
            raise ChatUnavailable
        if kind == "before":
            await commit(self, work)

    with monkeypatch.context() as patch:
        patch.setattr(PushImport, "_commit", broken)
        for _ in breaks:
            with pytest.raises(ChatUnavailable):
                await target.run(source)
        await target.run(source)
    whole = Importing(target.site, f"sqlite:///{target.config.data_dir / 'whole.sqlite'}", target.config.data_dir)
    await whole.run(source)
    assert same_of(await target.look()) == same_of(await whole.look())


async def test_files_that_come_later(target: Importing, source: str, folder: Path, tmp_path: Path) -> None:
    """Files that were not there at first come with a later run, for their messages and for forwards of these; one that
    was damaged is begun again."""
    attach(tmp_path, "f1", [SMALL])
    damaged = tmp_path / f"{uuid_of('f2')}.json"
    damaged.write_text('{"binary":"aGVs*"}')
    first = await target.run(source)
    assert first.counts["messages_without_their_file"] == 5
    second = await target.run(source, tmp_path)
    assert (second.counts["files"], second.counts["missing_files"], second.counts["messages_completed"]) == (1, 2, 3)
    third = await target.run(source, folder)
    assert (third.counts["files"], third.counts["missing_files"], third.counts["messages_completed"]) == (1, 1, 1)
    files = [list(one["file"]) for one in (await target.look())["messages"] if one["file"]]
    assert files == [SMALL_FILE, LARGE_FILE, SMALL_FILE, SMALL_FILE]


async def test_a_look(target: Importing, source: str, folder: Path) -> None:
    """A dry run counts what there is, names missing files, and changes nothing."""
    outcome = await target.run(source, folder, is_dry=True)
    assert outcome.counts == {
        **{"users": 5, "rooms": 3, "contacts": 2, "messages": 16, "receipts": 6, "attachments": 3, "tests": 1},
        **{"first_passwords": 1, "disabled_users": 1, "missing_files": 1},
    }
    assert target.passwords == {}
    await target.run(source)


async def test_other_databases(site: Site, shared_postgres: Postgres, tmp_path: Path) -> None:
    """A database that is none of push0k is refused with what was expected and found; one of an older push0k is read
    without what came later; one that is not there is told."""
    target = Importing(site, f"sqlite:///{tmp_path / 'journal.sqlite'}", tmp_path)
    with pytest.raises(ConfigError, match="expected postgresql://"):
        await target.run(f"sqlite:///{tmp_path / 'other.sqlite'}")
    with pytest.raises(ConfigError, match="expected postgresql://"):
        await target.run("host=localhost dbname=push0k")
    empty = shared_postgres.new_database()
    with pytest.raises(ConfigError, match="expected the structure of push0k; no table userscat; no table roomscat"):
        await target.run(empty)
    changed = shared_postgres.new_database()
    push = PushDatabase()
    push.user("ann", 1)
    push.message("m", "ann", 1, destid="ann")
    await push.fill(changed, without=["messages.extdata", "basescat"])
    with pytest.raises(ConfigError, match="no table basescat; messages has no extdata, but conid, datasize"):
        await target.run(changed)
    older = shared_postgres.new_database()
    await push.fill(older, without=["messages.parentid", "roomscat.objectid", "roomscat.objtype", "userscat.tmppwd"])
    assert (await target.run(older)).counts["messages"] == 1
    with pytest.raises(JournalUnavailable):
        await target.run(older.replace("/test", "/none"))


async def test_memory(shared_postgres: Postgres) -> None:
    """The memory does not grow with the number of messages."""
    url = shared_postgres.new_database()
    push = PushDatabase()
    push.user("ann", 1)
    await push.fill(url)
    engine = open_database(url)
    async with engine.begin() as sql:
        await sql.execute(
            text(
                "INSERT INTO messages (tmstamp, userid, destid, mesid, message, datatype, extdata, datasize, conid)"
                " SELECT now(), refid, refid, md5(n::text)::uuid, repeat('word ', 100), 0, '', 0, ''"
                " FROM userscat, generate_series(1, 30000) AS n"
            )
        )
    await engine.dispose()
    async with open_source(url) as source:
        tracemalloc.start()
        count = 0
        async for part in source.messages(200):
            count += len(part)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 30_000
    assert peak < 5_000_000
