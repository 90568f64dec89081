"""Pages of lists by id, in both orders. Each statement reads a bounded number of ids."""

from typing import Any

from msgspec import Struct
from sqlalchemy import Column, Select
from sqlalchemy.ext.asyncio import AsyncConnection


class IdPage(Struct, frozen=True):
    """The ids of a page, and the id behind which the next one begins (None: this is the last one)."""

    ids: list[int]
    last: int | None


class PagePlace(Struct, frozen=True):
    """A place in a list, and how much is wanted behind it. Lives as long as the request."""

    behind: int | None
    limit: int
    is_newest_first: bool = False

    def cut(self, ids: list[int]) -> IdPage:
        """A page of ids, of which one more than wanted may be there."""
        is_last = len(ids) <= self.limit
        return IdPage(ids[: self.limit], None if is_last else ids[self.limit - 1])

    def bound(self, statement: Select[Any], id: Column[Any], limit: int, behind: int | None) -> Select[Any]:
        """The statement for this many rows behind an id, in the order of the list."""
        if behind is not None:
            statement = statement.where(id < behind if self.is_newest_first else id > behind)
        return statement.order_by(id.desc() if self.is_newest_first else id.asc()).limit(limit)


async def page_of_ids(sql: AsyncConnection, statement: Select[Any], id: Column[Any], place: PagePlace) -> IdPage:
    """The page of a list whose first column is the id."""
    bound = place.bound(statement, id, place.limit + 1, place.behind)
    return place.cut(list((await sql.execute(bound)).scalars()))
