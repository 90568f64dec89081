"""A list of the times at which the sites of a node are due for a chore."""

import heapq


class DueSites:
    """When each site is due: the earliest time counts. Time is passed in."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        #: The same, earliest first, with entries that an earlier time has replaced.
        self._heap: list[tuple[float, str]] = []

    def __contains__(self, site: str) -> bool:
        """Whether the site is noted."""
        return site in self._due

    def note(self, site: str, due: float) -> None:
        """Notes a site, unless it is noted for an earlier time."""
        if due < self._due.get(site, float("inf")):
            self._due[site] = due
            heapq.heappush(self._heap, (due, site))

    def take(self, now: float, most: int) -> list[str]:
        """Takes out sites that are due."""
        taken: list[str] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < most:
            due, site = heapq.heappop(self._heap)
            if self._due.get(site) == due:
                del self._due[site]
                taken.append(site)
        return taken
