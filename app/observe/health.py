"""Whether this node should be given work: the checks behind /readyz. Knows none of the things that they look at."""

from collections.abc import Callable, Mapping


class Health:
    """The checks of one node. Lives as long as the node. A node that drains is not ready again."""

    def __init__(
        self, checks: Mapping[str, Callable[[], bool]], notices: Mapping[str, Callable[[], bool]] | None = None
    ) -> None:
        """Each check answers at once whether the thing that it is named after works.

        A notice is a check of something that is one tenant's: /readyz shows it, and the node stays ready for others.
        """
        self._checks = dict(checks)
        self._notices = dict(notices or {})
        self._is_draining = False

    def set_notices(self, notices: Mapping[str, Callable[[], bool]]) -> None:
        """Takes these notices, and those before no more."""
        self._notices = dict(notices)

    def start_draining(self) -> None:
        """The node is about to end: no new clients. Idempotent."""
        self._is_draining = True

    def check(self) -> dict[str, bool]:
        """The outcome of every check by name; `accepting` is false once the node drains."""
        outcome = {name: check() for name, check in self._checks.items()}
        return {**outcome, "accepting": not self._is_draining}

    def notices(self) -> dict[str, bool]:
        """The outcome of every notice by name."""
        return {name: check() for name, check in self._notices.items()}

    @property
    def is_ready(self) -> bool:
        """Whether every check holds."""
        return all(self.check().values())
