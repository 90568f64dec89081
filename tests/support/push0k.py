"""A database of push0k for tests: tables of its structure, rows named in words, and attachments in a folder."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from sqlalchemy import text

from app.journal.database import open_database

#: The columns that the import reads, with their types there.
_STRUCTURE = {
    "userscat": "refid uuid PRIMARY KEY, marked boolean, number varchar(20), description varchar(25), pwd varchar,"
    " usersign varchar(256), tmppwd varchar, icon varchar, code numeric(13,0), changestamp timestamptz",
    "roomscat": "refid uuid PRIMARY KEY, marked boolean, description varchar(25), extdesc varchar,"
    " roomtype numeric(1,0), icon varchar, objectid uuid, objtype uuid",
    "users_roomscat": "userid uuid, roomid uuid, lineno numeric(5,0), admin boolean",
    "users_contacts": "userid uuid, contactid uuid, description varchar(50), blocknotifications boolean,"
    " blockmessages boolean, changestamp timestamptz",
    "basescat": "refid uuid PRIMARY KEY, description varchar(256), baseref varchar(1024), baseversion varchar(256)",
    "devicecat": "refid uuid PRIMARY KEY, description varchar(50), platformtype varchar(50), osversion varchar(100)",
    "connections": "conid varchar(22), userid uuid, usrdevid uuid, baseid uuid, dateon timestamptz",
    "messages": "tmstamp timestamptz, userid uuid, destid uuid, mesid uuid, roomid uuid, message varchar,"
    " datatype numeric(1,0), extdata varchar, datasize numeric(16,0), conid character(22), parentid uuid",
    "notifications": "tmstamp timestamptz, mesid uuid, userid uuid, usrdevid uuid, logtype numeric(1,0)",
}
#: Two indexes of push0k; messages are read in the order of the first.
_INDEXES = (
    "CREATE UNIQUE INDEX messages_bydims ON messages (tmstamp, userid, destid, mesid, roomid)",
    "CREATE UNIQUE INDEX users_contacts_bydims ON users_contacts (userid, contactid)",
)
BEGIN = datetime(2019, 1, 1, 7, 7, 7, 811_000, UTC)


def uuid_of(name: str | None) -> str | None:
    """The id of the thing that a test names so."""
    return None if name is None else str(uuid5(NAMESPACE_URL, name))


def hash_of(password: str) -> str:
    """The hash that push0k keeps of a password."""
    return sha256(sha256(password.encode()).hexdigest().encode()).hexdigest()


def ms_of(second: float) -> int:
    """The time of a message so many seconds after the begin, in milliseconds."""
    return int((BEGIN + timedelta(seconds=second)).timestamp() * 1000)


class PushDatabase:
    """The rows of one database. Lives as long as the test; `write` makes the tables."""

    def __init__(self) -> None:
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _STRUCTURE}

    def add(self, table: str, **row: Any) -> None:
        """One row; names in the columns of ids become ids."""
        ids = {column.split()[0] for column in _STRUCTURE[table].split(",") if " uuid" in column}
        made = {column: uuid_of(value) if column in ids else value for column, value in row.items()}
        self._rows[table].append(made)

    def user(self, name: str, code: int, password: str = "", **more: Any) -> None:
        """A user whose first device is named as it is."""
        row = {"marked": False, "number": f"+{code}", "usersign": "", "tmppwd": "", "icon": "", "changestamp": BEGIN}
        row |= {"refid": name, "description": name, "code": code, "pwd": hash_of(password)}
        self.add("userscat", **row | more)

    def room(self, name: str, members: Sequence[str], admins: Sequence[str] = (), **more: Any) -> None:
        """A room."""
        self.add("roomscat", **{"refid": name, "marked": False, "description": name, "extdesc": "", "icon": ""} | more)
        for number, user in enumerate(members):
            self.add("users_roomscat", userid=user, roomid=name, lineno=number, admin=user in admins)

    def connection(self, user: str, second: float = 0) -> str:
        """A connection of a user with its device and the program `office`; its id."""
        conid = f"{user}-{second}"
        self.add("connections", conid=conid, userid=user, usrdevid=f"{user}'s", baseid="office", dateon=time_of(second))
        return conid

    def message(self, name: str, sender: str, second: float, **more: Any) -> None:
        """A message, to a user (`destid`) or a room (`roomid`)."""
        row = {"tmstamp": time_of(second), "mesid": name, "userid": sender, "destid": None, "roomid": None}
        row |= {"message": name, "datatype": 0, "extdata": "", "datasize": 0, "conid": "", "parentid": None}
        self.add("messages", **row | more)

    def receipt(self, message: str, user: str, second: float | None, logtype: int) -> None:
        """A delivery (0) or a reading (1) at the user's device."""
        at = None if second is None else time_of(second)
        self.add("notifications", tmstamp=at, mesid=message, userid=user, usrdevid=f"{user}'s", logtype=logtype)

    def write(self, url: str, without: Sequence[str] = ()) -> None:
        """Make the tables with these rows; `without` names tables, and columns as `table.column`."""
        asyncio.run(self.fill(url, without))

    async def fill(self, url: str, without: Sequence[str] = ()) -> None:
        """The same, within a loop."""
        engine = open_database(url)
        async with engine.begin() as sql:
            for table, columns in _STRUCTURE.items():
                await sql.execute(text(f"CREATE TABLE {table} ({columns})"))
                names = [column.split()[0] for column in columns.split(", ")]
                rows = [{name: row.get(name) for name in names} for row in self._rows[table]]
                if rows:
                    values = ", ".join(f":{name}" for name in names)
                    await sql.execute(text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})"), rows)
            for index in _INDEXES:
                await sql.execute(text(index))
            for one in without:
                table, _, column = one.partition(".")
                await sql.execute(text(f"ALTER TABLE {table} DROP {column}" if column else f"DROP TABLE {table}"))
        await engine.dispose()


def attach(folder: Path, name: str, parts: Sequence[bytes], *, is_split: bool = False, **more: Any) -> None:
    """Write an attachment as push0k does: one file, or one for each part. `is_split` cuts the base64 of the whole."""
    texts = [b64encode(part).decode() for part in parts]
    if is_split:
        whole = b64encode(b"".join(parts)).decode()
        texts = [whole[start : start + 1_001] for start in range(0, len(whole), 1_001)]
    for number, one in enumerate(texts, 1):
        # Half a pair, as Node writes it, and a text that looks like the field.
        told = {"mesid": name, "message": '\ud83d "binary":"no"', "PartsCount": len(texts), "FilePart": number}
        ending = "" if len(texts) == 1 else str(number)
        content = json.dumps({**told, **more, "binary": one, "upload": False}, separators=(",", ":"))
        (folder / f"{uuid_of(name)}{ending}.json").write_text(content)


def time_of(second: float) -> datetime:
    """The time so many seconds after the begin."""
    return BEGIN + timedelta(seconds=second)
