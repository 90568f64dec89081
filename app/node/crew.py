"""The workers that a supervisor wants to run, and what a wish changes in that. Plain decisions; knows no process."""

from msgspec import Struct

from app.node.supervisor_door import Wish, WishRefused

#: A supervisor with one worker would be a server of one process, which works otherwise.
LEAST_WORKERS = 2
MOST_WORKERS = 256


class CrewChange(Struct, frozen=True):
    """The steps that a wish leads to: numbers of workers."""

    starts: list[int] = []
    stops: list[int] = []
    restarts: list[int] = []
    #: All of `restarts`, one after the other.
    is_roll: bool = False


class Crew:
    """Lives as long as the supervisor."""

    def __init__(self, count: int) -> None:
        self.wanted = set(range(count))
        #: Whether all workers are restarted one after the other at this time.
        self.is_rolling = False

    def take(self, wish: Wish) -> CrewChange:
        """Changes what is wanted, and answers the steps to it. Raises WishRefused."""
        if wish.verb == "resize":
            return self._resize(wish.number)
        if wish.verb == "roll":
            return self._roll()
        if wish.verb == "start":
            return self._start(wish.number)
        if wish.number not in self.wanted:
            raise WishRefused(f"no worker {wish.number} runs")
        if wish.verb == "restart":
            return CrewChange(restarts=[wish.number])
        if len(self.wanted) == 1:
            raise WishRefused("this is the last worker: end the server itself, or start another worker first")
        self.wanted.discard(wish.number)
        return CrewChange(stops=[wish.number])

    def _resize(self, count: int) -> CrewChange:
        if not LEAST_WORKERS <= count <= MOST_WORKERS:
            raise WishRefused(f"workers: expected {LEAST_WORKERS} to {MOST_WORKERS}")
        running = sorted(self.wanted)
        free = (number for number in range(count + len(running)) if number not in self.wanted)
        starts = [next(free) for _ in range(count - len(running))]
        stops = running[count:]
        self.wanted = {*running[:count], *starts}
        return CrewChange(starts, stops)

    def _start(self, number: int) -> CrewChange:
        if number in self.wanted:
            raise WishRefused(f"worker {number} runs")
        if not 0 <= number < MOST_WORKERS or len(self.wanted) >= MOST_WORKERS:
            raise WishRefused(f"workers: expected at most {MOST_WORKERS}")
        self.wanted.add(number)
        return CrewChange(starts=[number])

    def _roll(self) -> CrewChange:
        if self.is_rolling:
            raise WishRefused("the workers are being restarted already")
        self.is_rolling = True
        return CrewChange(restarts=sorted(self.wanted), is_roll=True)
