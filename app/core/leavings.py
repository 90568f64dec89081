"""The names of a site that this node has left and that Redis still counts it in: one errand takes them all out.

Knows nothing of what the names are: rooms, or the names of an audience.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence

from app.core.errands import Errands

#: Names in one command.
_NAMES_PER_COMMAND = 1_000


class Leavings:
    """The names of one site. Lives as long as the node."""

    def __init__(
        self,
        errands: Errands,
        site: str,
        leave: Callable[[Sequence[str]], Awaitable[object]],
        is_entered: Callable[[str], bool],
    ) -> None:
        """`leave` is the command; `is_entered` says that a name was entered again: it is left out of the command."""
        self._errands = errands
        self._site = site
        self._leave = leave
        self._is_entered = is_entered
        #: A dict, so that the names keep their order.
        self._left: dict[str, None] = {}

    def add(self, names: Iterable[str]) -> None:
        """Takes the names out in Redis soon; returns at once. A name that is entered later is joined after that."""
        is_under_way = bool(self._left)
        self._left.update(dict.fromkeys(names))
        if not is_under_way and self._left:
            self._errands.start(self._take_out())

    async def _take_out(self) -> None:
        while self._left:
            await self._errands.until_stored(self._try, self._site)

    async def _try(self) -> None:
        # Names of this command leave the collection first: a name that is entered and left again meanwhile is added
        # again, and left by a later command.
        names = list(self._left)[:_NAMES_PER_COMMAND]
        for name in names:
            del self._left[name]
        deserted = [name for name in names if not self._is_entered(name)]
        if not deserted:
            return
        try:
            await self._leave(deserted)
        except BaseException:
            self._left.update(dict.fromkeys(deserted))
            raise
