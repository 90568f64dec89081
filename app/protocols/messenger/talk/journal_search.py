"""The index of words: SQLite's FTS5, or lexemes and GIN in PostgreSQL. Both hold the words that `words.py` makes, and
the places where a message is seen, so that a search never looks into the conversations of others."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.talk.words import searched_words, words_of


def places_of(site_id: int, users: Sequence[int], rooms: Sequence[int]) -> list[str]:
    """The names of places in the index."""
    return [f"s{site_id}u{user}" for user in users] + [f"s{site_id}r{room}" for room in rooms]


class IndexedText(Struct, frozen=True):
    """The words of a message, and the places where it is found. Its key is that of the message's row."""

    key: int
    content: str
    places: Sequence[str]


async def index_words(sql: AsyncConnection, texts: Sequence[IndexedText], *, are_new: bool) -> None:
    """Writes the words of messages, in place of their earlier ones."""
    if is_postgres(sql):
        statement = (
            "INSERT INTO chat_search (key, words) VALUES (:key, array_to_tsvector(CAST(:lexemes AS TEXT[]))) "
            "ON CONFLICT (key) DO UPDATE SET words = excluded.words"
        )
        rows: list[dict[str, Any]] = [
            {"key": one.key, "lexemes": [*words_of(one.content), *("~" + place for place in one.places)]}
            for one in texts
        ]
        await sql.execute(text(statement), rows)
        return
    if not are_new:
        await sql.execute(text("DELETE FROM chat_search WHERE rowid = :key"), [{"key": one.key} for one in texts])
    rows = [{"key": one.key, "words": " ".join(words_of(one.content)), "scope": " ".join(one.places)} for one in texts]
    await sql.execute(text("INSERT INTO chat_search (rowid, words, scope) VALUES (:key, :words, :scope)"), rows)


async def forget_words(sql: AsyncConnection, key: int) -> None:
    """A message is found no more."""
    column = "key" if is_postgres(sql) else "rowid"
    await sql.execute(text(f"DELETE FROM chat_search WHERE {column} = :key"), {"key": key})


def is_postgres(sql: AsyncConnection) -> bool:
    """Whether the database is PostgreSQL."""
    return sql.dialect.name == "postgresql"


def search_source(sql: AsyncConnection, content: str, places: Sequence[str]) -> tuple[str, str] | None:
    """The condition of a search for the begin of a word, and for the words before it, with its parameter `question`:
    the table is `chat_search`. None: nothing is searched for."""
    words = searched_words(content)
    if not words or not places:
        return None
    if is_postgres(sql):
        found = " & ".join([*(f"'{word}'" for word in words[:-1]), f"'{words[-1]}':*"])
        seen = " | ".join(f"'~{place}'" for place in places)
        return "words @@ CAST(:question AS TSQUERY)", f"{found} & ({seen})"
    found = " AND ".join([*(f'"{word}"' for word in words[:-1]), f'"{words[-1]}"*'])
    seen = " OR ".join(places)
    return "chat_search MATCH :question", f"(words : ({found})) AND (scope : ({seen}))"
