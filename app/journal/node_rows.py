"""Rows that nodes write beside the fates of messages (connections, refusals, log lines, samples): from JSON to the
types of their columns. Plain code without I/O."""

from collections.abc import Mapping

import msgspec
from sqlalchemy import BigInteger, Boolean, Column, Integer, Table

#: Integer columns of four and of eight bytes.
_LARGEST = {False: 2**31 - 1, True: 2**63 - 1}
#: Filled by the writer.
_OURS = ("id", "site_id")


def row_of(table: Table, given: Mapping[str, object]) -> dict[str, object]:
    """The row in order of the table's columns, without ids, and `site` where one is named. Unknown keys are passed
    over. Raises ValueError for a value that the column cannot hold."""
    row = {column.name: _value(column, given.get(column.name)) for column in table.columns if column.name not in _OURS}
    if isinstance(site := given.get("site"), str):
        row["site"] = _text(site)
    return row


def _value(column: Column[object], value: object) -> object:
    if value is None:
        if not column.nullable:
            raise ValueError(f"{column.name} is missing")
        return None
    if isinstance(column.type, Boolean):
        return bool(value)
    if isinstance(column.type, Integer):
        return _number(column, value)
    return _text(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def _number(column: Column[object], value: object) -> int:
    if not isinstance(value, int | float) or value != value:
        raise ValueError(f"{column.name}: expected a number")
    most = _LARGEST[isinstance(column.type, BigInteger)]
    # A duration past the bound is shown as the bound; it is no reason to lose the row.
    return int(min(max(value, -most), most))


def _text(text: str) -> str:
    """The text as SQL can hold it: PostgreSQL takes no NUL, and UTF-8 no half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
