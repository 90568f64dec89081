"""Operators, tokens and the audit in SQL, beside the tables of the journal. Adapter of `OperatorStore`."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Insert, Row, Table, delete, func, insert, literal, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.clock import now_ms
from app.console.operators import MAX_OPERATORS, MAX_TOKENS, Operator, Token
from app.journal.database import translated
from app.journal.tables import api_tokens, audit, operators, sites
from app.protocols.operations import Role

_ANSWER_SECONDS = 5.0
#: How finely the last use is kept.
_USE_MS = 60_000
#: The characters of the audit's longest detail.
_MOST_DETAIL = 4_000


class SqlOperators:
    """Lives as long as the node, or as a command. The owner of the engine disposes of it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, name: str) -> Operator | None:
        """An operator by its name."""
        async with self._sql() as sql:
            row = (await sql.execute(select(operators).where(operators.c.name == name))).one_or_none()
        return _operator(row) if row is not None else None

    async def find_id(self, id: int) -> Operator | None:
        """An operator by its id, which no later operator gets."""
        async with self._sql() as sql:
            row = (await sql.execute(select(operators).where(operators.c.id == id))).one_or_none()
        return _operator(row) if row is not None else None

    async def find_subject(self, subject: str) -> Operator | None:
        """The operator whom a provider means."""
        async with self._sql() as sql:
            row = (await sql.execute(select(operators).where(operators.c.subject == subject))).one_or_none()
        return _operator(row) if row is not None else None

    async def find_token(self, digest: bytes) -> Operator | None:
        """The operator of a token. Its use is noted, at most once a minute."""
        of_token = api_tokens.c.digest == digest
        async with self._sql() as sql:
            joined = select(operators).join(api_tokens, api_tokens.c.operator_id == operators.c.id)
            row = (await sql.execute(joined.where(of_token))).one_or_none()
        if row is None:
            return None
        await self._note_use(api_tokens, of_token)
        return _operator(row)

    async def list_operators(self) -> Sequence[Operator]:
        """All operators, by name."""
        async with self._sql() as sql:
            statement = select(operators).order_by(operators.c.name).limit(MAX_OPERATORS)
            return [_operator(row) for row in await sql.execute(statement)]

    async def add(
        self, name: str, password_hash: str, role: Role, sites: Sequence[str] | None, subject: str | None = None
    ) -> bool:
        """Adds an operator. False: the name or the subject is taken, or there are too many."""
        row = {"name": name, "password_hash": password_hash, "role": role.name.lower(), "created_at": now_ms()}
        row["subject"] = subject
        try:
            async with self._sql() as sql:
                statement = _insert_below(operators, MAX_OPERATORS, row | {"sites": _packed(sites)})
                return (await sql.execute(statement)).rowcount > 0
        except IntegrityError:
            return False

    async def change(self, name: str, *, ends_sessions: bool, **columns: Any) -> bool:
        """Changes columns of an operator. False: there is none."""
        if "sites" in columns:
            columns["sites"] = _packed(columns["sites"])
        if "role" in columns:
            columns["role"] = columns["role"].name.lower()
        if ends_sessions:
            columns["version"] = operators.c.version + 1
        async with self._sql() as sql:
            done = await sql.execute(update(operators).where(operators.c.name == name).values(**columns))
            return done.rowcount > 0

    async def remove(self, name: str) -> bool:
        """Removes an operator with its tokens. False: there is none."""
        async with self._sql() as sql:
            of_name = select(operators.c.id).where(operators.c.name == name)
            await sql.execute(delete(api_tokens).where(api_tokens.c.operator_id.in_(of_name)))
            return (await sql.execute(delete(operators).where(operators.c.name == name))).rowcount > 0

    async def note_use(self, id: int) -> None:
        """Notes that an operator was here, at most once a minute."""
        await self._note_use(operators, operators.c.id == id)

    async def list_tokens(self, operator_id: int) -> Sequence[Token]:
        """The tokens of an operator, oldest first."""
        columns = (api_tokens.c.id, api_tokens.c.name, api_tokens.c.created_at, api_tokens.c.used_at)
        async with self._sql() as sql:
            statement = select(*columns).where(api_tokens.c.operator_id == operator_id).order_by(api_tokens.c.id)
            return [Token(**row._mapping) for row in await sql.execute(statement)]

    async def add_token(self, operator_id: int, name: str, digest: bytes) -> bool:
        """Adds a token. False: there are too many."""
        row = {"operator_id": operator_id, "name": name, "digest": digest, "created_at": now_ms()}
        of_operator = api_tokens.c.operator_id == operator_id
        async with self._sql() as sql:
            return (await sql.execute(_insert_below(api_tokens, MAX_TOKENS, row, of_operator))).rowcount > 0

    async def remove_token(self, operator_id: int, id: int) -> bool:
        """Removes a token. False: there is none."""
        of_operator = (api_tokens.c.operator_id == operator_id, api_tokens.c.id == id)
        async with self._sql() as sql:
            return (await sql.execute(delete(api_tokens).where(*of_operator))).rowcount > 0

    async def add_audit(self, operator: str, action: str, site: str | None, target: str, detail: str) -> None:
        """Writes down what an operator did."""
        site_id = select(sites.c.id).where(sites.c.name == site).scalar_subquery() if site is not None else None
        row = {"at": now_ms(), "operator": operator, "action": action, "target": target[:_MOST_DETAIL]}
        async with self._sql() as sql:
            await sql.execute(insert(audit).values(site_id=site_id, detail=detail[:_MOST_DETAIL], **row))

    async def _note_use(self, table: Any, of_row: Any) -> None:
        now = now_ms()
        is_due = or_(table.c.used_at.is_(None), table.c.used_at < now - _USE_MS)
        async with self._sql() as sql:
            # Looked at first: an UPDATE that changes nothing takes SQLite's lock all the same.
            if (await sql.execute(select(table.c.id).where(of_row, is_due))).first() is None:
                return
        async with self._sql() as sql:
            await sql.execute(update(table).where(of_row).values(used_at=now))

    @asynccontextmanager
    async def _sql(self) -> AsyncIterator[AsyncConnection]:
        with translated():
            async with asyncio.timeout(_ANSWER_SECONDS), self._engine.begin() as sql:
                yield sql


def _insert_below(table: Table, most: int, row: Mapping[str, Any], *counted: ColumnElement[bool]) -> Insert:
    """Inserts a row if fewer than so many are there. One statement: SQLite refuses a transaction that reads and then
    writes, when another has written in between."""
    count = select(func.count()).select_from(table).where(*counted).scalar_subquery()
    values = [literal(value, table.c[name].type) for name, value in row.items()]
    return insert(table).from_select(list(row), select(*values).where(count < most))


def _operator(row: Row[Any]) -> Operator:
    values = dict(row._mapping)
    values["role"] = Role[values["role"].upper()]
    values["sites"] = None if values["sites"] is None else tuple(msgspec.json.decode(values["sites"]))
    return Operator(**values | {"is_disabled": bool(values["is_disabled"])})


def _packed(sites: Sequence[str] | None) -> str | None:
    return None if sites is None else msgspec.json.encode(list(sites)).decode()
