"""Reads es-web-notify's registry, as a dump of its database or as JSON, into requests to our own. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from app.config.importing import ImportedRequest, Importer, ImportPlan
from app.errors import BadRequest, ConfigError
from app.protocols.topics.registry import check_registrable, read_registration
from app.protocols.topics.sql_dump import rows_of

TABLE = "registered_endpoints"
#: As many as a site may register.
_MAX_ROWS = 100_000
_SHOWN = 100


def read_registry(data: bytes, owner: str | None) -> ImportPlan:
    """A PUT for each registered topic. `owner` is that of topics without one. Raises ConfigError, naming the topic."""
    requests: dict[str, ImportedRequest] = {}
    notes = []
    for row in _rows(data):
        topic = row.get("endpoint", row.get("ep"))
        if not isinstance(topic, str):
            raise ConfigError("endpoint: expected the text of a topic in each row")
        shown = f"topic {topic[:_SHOWN]!r}"
        try:
            check_registrable(topic)
        except BadRequest as error:
            notes.append(f"{shown}: not imported. {error}")
            continue
        if topic in requests:
            notes.append(f"{shown}: stands there twice, the last one counts")
        if _decoded(row.get("pub_password"), shown, "pub_password"):
            notes.append(f"{shown}: imported without its password, which is kept as a hash and was never checked")
        body = _body(row, owner, shown)
        requests[topic] = ImportedRequest("PUT", f"/registry/{quote(topic, safe='')}", body, shown)
    return ImportPlan(list(requests.values()), notes)


def _rows(data: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("expected UTF-8") from None
    if not text.lstrip().startswith(("[", "{")):
        return iter(rows_of(text, TABLE, _MAX_ROWS))
    try:
        found = _table_in(msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError):
        raise ConfigError("expected JSON, or an SQL dump") from None
    if found is None or not all(isinstance(row, dict) for row in found):
        raise ConfigError(f"expected a JSON list of the rows of {TABLE}")
    if len(found) > _MAX_ROWS:
        raise ConfigError(f"expected at most {_MAX_ROWS} rows")
    return iter(found)


def _table_in(value: object) -> list[Any] | None:
    """The rows in a list of rows, in `{"registered_endpoints": rows}`, or in an export of phpMyAdmin."""
    if isinstance(value, dict):
        value = value.get(TABLE)
    if not isinstance(value, list):
        return None
    for part in value:
        if isinstance(part, dict) and part.get("type") == "table" and part.get("name") == TABLE:
            data = part.get("data")
            return data if isinstance(data, list) else None
    return value


def _body(row: Mapping[str, Any], owner: str | None, shown: str) -> bytes:
    fields = {name: _decoded(row.get(name), shown, name) for name in ("pub", "sub")}
    named = row.get("owner")
    if isinstance(named, str) and named.startswith('"'):
        named = _decoded(named, shown, "owner")
    body = msgspec.json.encode({"owner": owner if named in (None, "") else named, **fields})
    try:
        read_registration(body)
    except BadRequest as error:
        hint = " Use --owner for topics without one." if named in (None, "") else ""
        raise ConfigError(f"{shown}: {error}{hint}") from None
    return body


def _decoded(value: object, shown: str, name: str) -> object:
    """A column that holds JSON; an exporter may have decoded it. Passwords that are no JSON stand for themselves."""
    if not isinstance(value, str) or not value:
        return value or None
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        if name == "pub_password":
            return value
        raise ConfigError(f"{shown}: {name}: expected a JSON list of users") from None


ES_WEB_NOTIFY = Importer(
    "es-web-notify",
    f"Import the registered topics of es-web-notify: a dump of its table {TABLE}, or JSON.",
    read_registry,
)
