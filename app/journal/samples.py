"""Samples for the journal: what has happened since the sample before, on the node and in each site that is in use.

Plain code without I/O; the time is passed in. `charts.py` reads the samples.
"""

from collections.abc import Iterator

from app.observe.counts import ACK_BUCKETS, Counts, SiteCounts
from app.observe.process import DurationsWindow, cpu_seconds, memory_bytes
from app.observe.records import Row

#: Counts since the sample before. A figure that is 0 stands in no sample.
COUNTED = (
    "connects",
    "refusals",
    "closes",
    "sends",
    "stored",
    "deliveries",
    "acks",
    "resyncs",
    "overflows",
    "errors",
)
#: States at the moment of the sample.
STATES = ("connections", "devices", "queued")
#: The acks by their time since the writing; see `AckTimes`.
ACK_MS = "ack_ms"

#: Sites of one round: the others have their sample in a later one, which then holds all since their last.
MOST_SITES = {10: 100, 300: 1_000}

#: The values of COUNTED and the buckets of the acks.
_Totals = list[int]
_NOTHING: _Totals = [0] * (len(COUNTED) + ACK_BUCKETS)


class SampleSeries:
    """The samples of one interval. Lives as long as the recorder."""

    def __init__(self, counts: Counts, seconds: int) -> None:
        self.seconds = seconds
        self._counts = counts
        self._sampled_at = 0
        #: Of each site that has been sampled, the totals then.
        self._before: dict[str, _Totals] = {}
        self._left_out: dict[str, None] = {}
        self._node_before = list(_NOTHING)
        self._own_before = self._own_totals()
        self._lag = DurationsWindow(counts.loop_lag_seconds)

    def is_due(self, now_seconds: int) -> bool:
        """Whether a new interval has begun since the last round."""
        return now_seconds // self.seconds != self._sampled_at // self.seconds

    def round(self, now_seconds: int) -> Iterator[Row | None]:
        """The rows of one round; None for a site without one, so that the caller may pause anywhere."""
        self._sampled_at = now_seconds
        left = MOST_SITES[self.seconds]
        sites = self._counts.sites
        names = dict.fromkeys([*self._left_out, *sites])
        self._left_out = {}
        self._before = {name: totals for name, totals in self._before.items() if name in sites}
        node, states = list(_NOTHING), dict.fromkeys(STATES, 0)
        for name in names:
            site = sites.get(name)
            if site is None:
                continue
            totals, state = _totals(site), _states(site)
            node = [one + other for one, other in zip(node, totals, strict=True)]
            states = {key: states[key] + value for key, value in state.items()}
            before = self._before.get(name, _NOTHING)
            if totals == before and not state["connections"]:
                yield None
            elif not left:
                self._left_out[name] = None
                yield None
            else:
                left -= 1
                self._before[name] = totals
                yield self._row(now_seconds, _figures(totals, before, state)) | {"site": name}
        yield self._row(now_seconds, self._node_figures(node, states))

    def _row(self, now_seconds: int, figures: dict[str, object]) -> Row:
        # All nodes' samples of an interval have one time.
        return {"at": (now_seconds - now_seconds % self.seconds) * 1000, "seconds": self.seconds, "figures": figures}

    def _node_figures(self, totals: _Totals, states: dict[str, int]) -> dict[str, object]:
        figures = _figures(totals, self._node_before, states)
        self._node_before = totals
        own = self._own_totals()
        figures |= {key: round(value - self._own_before[key], 3) for key, value in own.items()}
        self._own_before = own
        figures["lag_ms"], figures["longest_lag_ms"] = self._lag.look()
        return figures | {"sessions": self._counts.sessions(), "memory_bytes": memory_bytes()}

    def _own_totals(self) -> dict[str, float]:
        counts = self._counts
        return {
            "cpu_seconds": cpu_seconds(),
            "errors": counts.errors,
            "faults": sum(counts.faults.values()),
            "redis_losses": counts.redis_losses,
        }


def _totals(site: SiteCounts) -> _Totals:
    connects = sum(site.connects.values())
    accepted = site.connects["accepted"]
    closes, resyncs = sum(site.closes.values()), sum(site.resyncs.values())
    counted = (accepted, connects - accepted, closes, site.sends, site.stored, site.deliveries, site.acks, resyncs)
    return [*counted, site.overflows, site.errors, *site.ack_times.buckets]


def _states(site: SiteCounts) -> dict[str, int]:
    queues = site.queues
    devices = queues.devices if queues is not None else 0
    # The sample of a few queues stands for all.
    queued = round(devices * queues.messages / queues.sampled) if queues is not None and queues.sampled else 0
    return {"connections": site.connections, "devices": devices, "queued": queued}


def _figures(totals: _Totals, before: _Totals, states: dict[str, int]) -> dict[str, object]:
    # A site that was deleted and added again counts from 0, and so do all sites with it.
    added = [now - then if now >= then else now for now, then in zip(totals, before, strict=True)]
    counted = dict(zip(COUNTED, added, strict=False))
    figures: dict[str, object] = {name: value for name, value in (counted | states).items() if value}
    if any(acks := added[len(COUNTED) :]):
        figures[ACK_MS] = acks
    return figures
