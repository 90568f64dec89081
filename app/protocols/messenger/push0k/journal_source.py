"""push0k's database, read only: its structure is checked, and rows come in parts, of one state of the database."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.engine import Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import ConfigError
from app.journal.database import is_postgres, open_database, translated
from app.protocols.messenger.bounds import (
    MAX_ABOUT_CHARACTERS,
    MAX_DESCRIPTION_CHARACTERS,
    MAX_DEVICES_OF_USER,
    MAX_ICON_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_SIGN_CHARACTERS,
)
from app.protocols.messenger.push0k.source_rows import (
    TEST,
    PushApp,
    PushContact,
    PushCounts,
    PushDevice,
    PushMessage,
    PushReceipt,
    PushRoom,
    PushUser,
)

#: The characters of a message, of what goes with it, and of a stored hash that are read.
MAX_READ_CHARACTERS = 131_072
MAX_EXTRA_CHARACTERS = 4_096
_HASH_CHARACTERS = 128
_SHOWN_CHARACTERS = 200
#: A statement that sorts all messages.
_STATEMENT_SECONDS = 3_600.0
#: The tables and columns that are read. Those behind `?` came later: without one it counts as empty.
STRUCTURE = {
    "userscat": "refid marked number description pwd usersign icon code changestamp ?tmppwd",
    "roomscat": "refid marked description extdesc roomtype icon ?objectid ?objtype",
    "users_roomscat": "userid roomid lineno admin",
    "users_contacts": "userid contactid description blocknotifications blockmessages changestamp",
    "basescat": "refid description baseref baseversion",
    "devicecat": "refid description platformtype osversion",
    "connections": "conid userid usrdevid baseid dateon",
    "messages": "tmstamp userid destid mesid roomid message datatype extdata datasize conid ?parentid",
    "notifications": "tmstamp mesid userid usrdevid logtype",
}

_T = TypeVar("_T")


def _ms(column: str) -> str:
    """A time as milliseconds; one before the epoch, or without an end, is the epoch."""
    milliseconds = f"floor(extract(epoch FROM {column}) * 1000)::bigint"
    return f"CASE WHEN isfinite({column}) THEN greatest(0, {milliseconds}) WHEN {column} IS NOT NULL THEN 0 END"


def _words(column: str, most: int) -> str:
    return f"left(coalesce({column}, ''), {most})"


_CUSTOM_CONTACT = """
    FROM users_contacts c JOIN userscat u ON u.refid = c.contactid
    WHERE c.userid <> c.contactid
      AND (c.blocknotifications OR c.blockmessages OR nullif(c.description, '') <> u.description)
"""
_USERS = f"""
    SELECT refid::text AS id, coalesce(marked, false) AS is_marked, coalesce(number, '') AS number,
      {_words("description", MAX_NAME_CHARACTERS)} AS name, {_words("pwd", _HASH_CHARACTERS)} AS stored,
      coalesce({{userscat.tmppwd}}, '') <> '' AS must_change, {_words("usersign", MAX_SIGN_CHARACTERS)} AS sign,
      {_words("icon", MAX_ICON_CHARACTERS + 1)} AS icon, coalesce(code::text, '') AS code
    FROM userscat ORDER BY coalesce(marked, false), changestamp, refid
"""
_ROOMS = f"""
    SELECT refid::text AS id, coalesce(marked, false) AS is_marked,
      {_words("description", MAX_NAME_CHARACTERS)} AS name,
      {_words("extdesc", MAX_DESCRIPTION_CHARACTERS)} AS description, coalesce(roomtype, 0)::int AS kind,
      {_words("icon", MAX_ICON_CHARACTERS + 1)} AS icon, {{roomscat.objtype}}::text AS object_type,
      {{roomscat.objectid}}::text AS object_id,
      ARRAY(SELECT m.userid::text FROM users_roomscat m WHERE m.roomid = refid ORDER BY m.lineno, m.userid) AS members,
      ARRAY(SELECT m.userid::text FROM users_roomscat m WHERE m.roomid = refid AND m.admin) AS admins
    FROM roomscat ORDER BY refid
"""
_CONTACTS = f"""
    SELECT c.userid::text AS owner, c.contactid::text AS other,
      nullif(nullif(c.description, ''), u.description) AS name,
      coalesce(c.blocknotifications, false) AS is_muted, coalesce(c.blockmessages, false) AS is_blocked
    {_CUSTOM_CONTACT} ORDER BY c.userid, c.contactid
"""
_APPS = f"""
    SELECT refid::text AS id, {_words("description", MAX_ABOUT_CHARACTERS)} AS name,
      {_words("baseref", MAX_ABOUT_CHARACTERS)} AS reference, {_words("baseversion", MAX_ABOUT_CHARACTERS)} AS version
    FROM basescat ORDER BY refid
"""
#: Of the devices of a user those that were seen last.
_DEVICES = f"""
    SELECT s.userid::text AS user, s.usrdevid::text AS device, {_ms("s.seen")} AS seen_at,
      {_words("d.description", MAX_ABOUT_CHARACTERS)} AS name, {_words("d.platformtype", MAX_ABOUT_CHARACTERS)} AS os,
      {_words("d.osversion", MAX_ABOUT_CHARACTERS)} AS os_version
    FROM (
      SELECT userid, usrdevid, max(at) AS seen,
        row_number() OVER (PARTITION BY userid ORDER BY max(at) DESC NULLS LAST, usrdevid) AS place
      FROM (
        SELECT userid, usrdevid, dateon AS at FROM connections
        UNION ALL SELECT userid, usrdevid, tmstamp FROM notifications WHERE logtype IN (0, 1)
      ) AS told WHERE usrdevid IS NOT NULL GROUP BY userid, usrdevid
    ) AS s LEFT JOIN devicecat d ON d.refid = s.usrdevid
    WHERE s.place <= {MAX_DEVICES_OF_USER} ORDER BY s.userid, s.usrdevid
"""
#: In the order of push0k's own index, which is that of the conversations.
_MESSAGES = f"""
    SELECT m.mesid::text AS id, m.userid::text AS sender, m.destid::text AS to_user, m.roomid::text AS room,
      {{m.messages.parentid}}::text AS parent, {_ms("m.tmstamp")} AS at, coalesce(m.datatype, 0)::int AS kind,
      {_words("m.message", MAX_READ_CHARACTERS)} AS text, {_words("m.extdata", MAX_EXTRA_CHARACTERS)} AS extra,
      greatest(coalesce(m.datasize, 0), 0)::bigint AS size, c.usrdevid::text AS device, c.baseid::text AS app,
      b.userid IS NOT NULL AS is_withheld
    FROM messages m
    LEFT JOIN (SELECT DISTINCT ON (conid) conid, usrdevid, baseid FROM connections ORDER BY conid, dateon) c
      ON c.conid = m.conid::text
    LEFT JOIN users_contacts b ON m.roomid IS NULL AND b.userid = m.destid AND b.contactid = m.userid
      AND b.blockmessages AND m.tmstamp >= b.changestamp
    WHERE m.datatype IS DISTINCT FROM {TEST}
"""
_IN_ORDER = " ORDER BY m.tmstamp, m.userid, m.destid, m.mesid, m.roomid"
_OWN_FILE = " AND m.datasize > 0 AND {m.messages.parentid} IS NULL"
_RECEIPTS = f"""
    SELECT mesid::text AS message, userid::text AS user, usrdevid::text AS device, bool_or(logtype = 0) AS is_delivered,
      bool_or(logtype = 1) AS is_read, {_ms("min(tmstamp) FILTER (WHERE logtype = 0)")} AS delivered_at,
      {_ms("min(tmstamp) FILTER (WHERE logtype = 1)")} AS read_at
    FROM notifications WHERE logtype IN (0, 1) GROUP BY mesid, userid, usrdevid ORDER BY mesid, userid, usrdevid
"""
_COUNTS = f"""
    SELECT (SELECT count(*) FROM userscat) AS users, (SELECT count(*) FROM roomscat) AS rooms,
      (SELECT count(*) {_CUSTOM_CONTACT}) AS contacts,
      (SELECT count(*) FROM messages WHERE datatype IS DISTINCT FROM {TEST}) AS messages,
      (SELECT count(*) FROM (SELECT 1 FROM notifications WHERE logtype IN (0, 1) GROUP BY mesid, userid, usrdevid) AS r)
        AS receipts,
      (SELECT count(*) FROM messages m WHERE m.datatype IS DISTINCT FROM {TEST} {_OWN_FILE}) AS attachments,
      (SELECT count(*) FROM messages WHERE datatype = {TEST}) AS tests
"""


class PushSource:
    """A database of push0k in one of its states. Lives as long as its connection; see `open_source`.

    Rows come in parts, so that memory does not grow with their number.
    """

    def __init__(self, sql: AsyncConnection, found: set[str]) -> None:
        self._sql = sql
        self._later = _later_columns(found)

    async def counts(self) -> PushCounts:
        """The rows that there are."""
        with _asked():
            row = (await self._sql.execute(text(_filled(_COUNTS, self._later)))).one()
        return PushCounts(**row._mapping)

    def users(self, part: int) -> AsyncIterator[list[PushUser]]:
        """The users, those in use first."""
        return self._parts(_USERS, PushUser, part)

    def rooms(self, part: int) -> AsyncIterator[list[PushRoom]]:
        """The rooms with their members."""
        return self._parts(_ROOMS, PushRoom, part)

    def contacts(self, part: int) -> AsyncIterator[list[PushContact]]:
        """The contacts that somebody has renamed, muted or blocked."""
        return self._parts(_CONTACTS, PushContact, part)

    def apps(self, part: int) -> AsyncIterator[list[PushApp]]:
        """The programs."""
        return self._parts(_APPS, PushApp, part)

    def devices(self, part: int) -> AsyncIterator[list[PushDevice]]:
        """The devices of each user."""
        return self._parts(_DEVICES, PushDevice, part)

    def messages(self, part: int) -> AsyncIterator[list[PushMessage]]:
        """The messages in their order, without those of load tests."""
        return self._parts(_MESSAGES + _IN_ORDER, PushMessage, part)

    def attachments(self, part: int) -> AsyncIterator[list[PushMessage]]:
        """The messages with a file of their own."""
        return self._parts(_MESSAGES + _OWN_FILE + _IN_ORDER, PushMessage, part)

    def receipts(self, part: int) -> AsyncIterator[list[PushReceipt]]:
        """The receipts, one for each message and device."""
        return self._parts(_RECEIPTS, PushReceipt, part)

    async def _parts(self, statement: str, kind: type[_T], part: int) -> AsyncIterator[list[_T]]:
        with _asked():
            rows = await self._sql.stream(
                text(_filled(statement, self._later)), execution_options={"max_row_buffer": part}
            )
            async for some in rows.partitions(part):
                yield [kind(**row._mapping) for row in some]


@asynccontextmanager
async def open_source(url: str) -> AsyncIterator[PushSource]:
    """The database at a URL. Raises ConfigError for one that is none of push0k, and JournalUnavailable."""
    engine = _engine_of(url)
    try:
        with _asked():
            plain = await engine.connect()
        try:
            with _asked():
                sql = await plain.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                found = await _structure(sql)
            yield PushSource(sql, found)
        finally:
            await plain.close()
    finally:
        await engine.dispose()


@contextmanager
def _asked() -> Iterator[None]:
    """Raises ConfigError for a row that PostgreSQL cannot give as it is asked for, and JournalUnavailable."""
    try:
        with translated():
            yield
    except DBAPIError as error:
        reason = str(error.orig).splitlines()[0][:_SHOWN_CHARACTERS]
        raise ConfigError(f"DSN: expected rows of push0k ({reason})") from None


def _engine_of(url: str) -> Any:
    try:
        engine = open_database(url, connections=1, statement_seconds=_STATEMENT_SECONDS)
    except ConfigError:
        raise ConfigError("DSN: expected postgresql://user@host/push0k") from None
    if not is_postgres(engine):
        raise ConfigError("DSN: expected postgresql://user@host/push0k: push0k keeps its data in PostgreSQL")
    return engine


async def _structure(sql: AsyncConnection) -> set[str]:
    """The columns that are there, as `table.column`. Raises ConfigError with those that are missing."""
    encoding = (await sql.execute(text("SHOW server_encoding"))).scalar_one()
    if encoding == "SQL_ASCII":
        raise ConfigError("DSN: expected a database with an encoding such as UTF8, found SQL_ASCII")
    await sql.execute(text("SET LOCAL search_path TO public"))
    statement = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    found = list(await sql.execute(text(statement)))
    missing = missing_from(found)
    if missing:
        raise ConfigError(f"DSN: expected the structure of push0k; {missing}")
    return {f"{row.table_name}.{row.column_name}" for row in found}


def missing_from(found: Sequence[Row[Any]]) -> str:
    """The tables and columns that are expected and missing, in words; "" if none is."""
    tables: dict[str, set[str]] = {}
    for row in found:
        tables.setdefault(row.table_name, set()).add(row.column_name)
    told = []
    for table, columns in STRUCTURE.items():
        if table not in tables:
            told.append(f"no table {table}")
            continue
        lost = [name for name in columns.split() if name[0] != "?" and name not in tables[table]]
        if lost:
            told.append(f"{table} has no {', '.join(lost)}, but {', '.join(sorted(tables[table]))}")
    return "; ".join(told)


def _later_columns(found: set[str]) -> dict[str, bool]:
    """Of each column that came later whether it is there."""
    named = [f"{table}.{name[1:]}" for table, names in STRUCTURE.items() for name in names.split() if name[0] == "?"]
    return {name: name in found for name in named}


def _filled(statement: str, later: dict[str, bool]) -> str:
    """The statement with NULL for later columns that are not there."""
    for name, is_there in later.items():
        column = name.partition(".")[2]
        statement = statement.replace(f"{{m.{name}}}", f"m.{column}" if is_there else "NULL")
        statement = statement.replace(f"{{{name}}}", column if is_there else "NULL")
    return statement
