"""The sizes of SQLite's tables and indexes. A small one is counted; of a large one a bounded part of its pages is read,
and the rest is taken to be like it. Pure: rows of the table `dbstat` in, numbers out.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

#: The pages of a table or an index that are read.
MAX_PAGES = 300


class TreePage(Struct, frozen=True):
    """A page of a table or an index, as `dbstat` has it; a page comes behind the one that leads to it."""

    #: `/` for the first page, `/000/` for a page below it, and with a `+` one that continues a long row.
    path: str
    #: `internal`, `leaf` or `overflow`.
    kind: str
    #: The rows on a leaf; the pages below another one, without the last.
    cells: int
    bytes: int


class TreeSize(Struct, frozen=True):
    """A table or an index."""

    rows: int
    bytes: int
    #: Whether it has more pages than were read.
    is_estimate: bool


class _Level(Struct):
    """The pages that were read at one depth, without those of long rows."""

    pages: int = 0
    cells: int = 0
    bytes: int = 0


def size_of(pages: Sequence[TreePage], *, has_rows_inside: bool) -> TreeSize:
    """The size of a tree of which these pages were read, MAX_PAGES at most. `has_rows_inside`: the pages above the
    leaves hold rows, too, as those of an index do."""
    is_estimate = len(pages) >= MAX_PAGES
    if not is_estimate:
        held = [page for page in pages if page.kind == "leaf" or (has_rows_inside and page.kind == "internal")]
        return TreeSize(sum(page.cells for page in held), sum(page.bytes for page in pages), False)
    levels = _levels(page for page in pages if page.kind != "overflow")
    rows = size = 0.0
    count = 1.0
    for depth, level in enumerate(levels):
        is_leaf = depth == len(levels) - 1
        cells = level.cells / level.pages
        rows += count * cells if is_leaf or has_rows_inside else 0
        size += count * level.bytes / level.pages
        count *= cells + 1
    long_share = sum(page.bytes for page in pages if page.kind == "overflow") / sum(one.bytes for one in levels)
    return TreeSize(round(rows), round(size * (1 + long_share)), True)


def _levels(pages: Iterable[TreePage]) -> list[_Level]:
    levels: list[_Level] = []
    for page in pages:
        depth = page.path.count("/") - 1
        if depth == len(levels):
            levels.append(_Level())
        level = levels[depth]
        level.pages += 1
        level.cells += page.cells
        level.bytes += page.bytes
    return levels
