"""The row of clients that wait for their TLS handshake: each address in its turn, and how many may begin at once.

Decides without I/O: the time is passed in. Knows neither sockets nor OpenSSL.
"""

from collections import Counter, deque
from itertools import islice
from typing import Generic, TypeVar

_Client = TypeVar("_Client")

#: The time of one turn of the loop that goes to handshakes, and the share of all time.
TURN_SECONDS = 0.002
SHARE = 0.5
_LOOKED_AT = 16


class HandshakeRow(Generic[_Client]):
    """The waiting clients of one process, by the owner of their address. Lives as long as the process listens."""

    def __init__(self, most_of_owner: int) -> None:
        """`most_of_owner` is the number of clients of one owner that have not ended their handshake; 0: any."""
        self._most_of_owner = most_of_owner
        self._counts: Counter[str] = Counter()
        self._waiting: dict[str, deque[_Client]] = {}
        #: The number of those that wait.
        self.waiting = 0
        self._not_before = 0.0

    def enter(self, owner: str) -> bool:
        """Counts a client; False when its owner has too many."""
        if self._most_of_owner and self._counts[owner] >= self._most_of_owner:
            return False
        self._counts[owner] += 1
        return True

    def has_several(self, owner: str) -> bool:
        """Whether an owner has more than one client that is counted."""
        return self._counts[owner] > 1

    def leave(self, owner: str) -> None:
        """Counts a client no longer: its handshake has ended, or it is gone."""
        self._counts[owner] -= 1
        if not self._counts[owner]:
            del self._counts[owner]

    def wait(self, owner: str, client: _Client) -> None:
        """Puts a client behind the others of its owner."""
        self._waiting.setdefault(owner, deque()).append(client)
        self.waiting += 1

    def pause_seconds(self, now: float) -> float | None:
        """The time until the next clients may begin; None when no client waits."""
        return max(0.0, self._not_before - now) if self._waiting else None

    def begin(self, now: float, cost_seconds: float) -> list[_Client]:
        """The clients that begin now: one of each owner in turn, as many as this turn of the loop has time for."""
        begun: list[_Client] = []
        while self._waiting and (not begun or (len(begun) + 1) * cost_seconds <= TURN_SECONDS):
            owner = next(iter(self._waiting))
            clients = self._waiting.pop(owner)
            begun.append(clients.popleft())
            if clients:
                # Behind all other owners.
                self._waiting[owner] = clients
        self.waiting -= len(begun)
        self._not_before = now + len(begun) * cost_seconds / SHARE
        return begun

    def drop_one(self) -> _Client | None:
        """Takes the last client of an owner with several out; None when no such owner is found soon."""
        # Owners with more clients stand behind each of their turns, at the end.
        for owner in islice(reversed(self._waiting), _LOOKED_AT):
            if len(self._waiting[owner]) > 1:
                self.waiting -= 1
                return self._waiting[owner].pop()
        return None

    def clear(self) -> list[_Client]:
        """Takes all waiting clients out."""
        waiting = [client for clients in self._waiting.values() for client in clients]
        self._waiting.clear()
        self.waiting = 0
        return waiting
