"""One metric: its name, its meaning, and the source of its samples. Knows nothing of Prometheus.

A protocol lists its metrics beside its counts; the readers here cover the usual places of a number.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, TypeAlias, TypeVar

from msgspec import Struct

from app.observe.counts import Counts, Durations, SiteCounts

_Part = TypeVar("_Part")

#: The values of the labels, and the number.
Samples: TypeAlias = Iterator[tuple[tuple[str, ...], Any]]
Reader: TypeAlias = Callable[[Counts], Samples]

SITE = ("site",)
BY_RESULT = ("site", "result")
BY_REASON = ("site", "reason")


class Kind(Enum):
    """The behaviour of a metric's number."""

    #: The number grows.
    COUNTER = "counter"
    #: The number is a state at this moment.
    GAUGE = "gauge"
    #: The samples are `Durations`.
    HISTOGRAM = "histogram"


class Metric(Struct, frozen=True):
    """One metric. A test compares it with its row in docs/metrics.md."""

    kind: Kind
    name: str
    help: str
    labels: tuple[str, ...]
    read: Reader


# Every reader copies its mapping first: a scrape runs in another thread than the one that adds.


def of_node(read: Callable[[Counts], float | Durations]) -> Reader:
    """One number of the node."""
    return lambda counts: iter([((), read(counts))])


def of_each(read: Callable[[Counts], Mapping[str, Any]]) -> Reader:
    """Numbers of the node by one label."""
    return lambda counts: (((value,), count) for value, count in list(read(counts).items()))


def of_site(read: Callable[[SiteCounts], float | Durations]) -> Reader:
    """One number of each site."""
    return lambda counts: (((name,), read(site)) for name, site in list(counts.sites.items()))


def of_site_and(read: Callable[[SiteCounts], Mapping[str, int]]) -> Reader:
    """Numbers of each site by one more label."""
    return lambda counts: (
        ((name, value), count) for name, site in list(counts.sites.items()) for value, count in list(read(site).items())
    )


def of_part(kind: type[_Part], read: Callable[[_Part], float | Durations]) -> Reader:
    """One number of each site, of one protocol."""
    return of_site(lambda site: read(site.part(kind)))


def of_part_and(kind: type[_Part], read: Callable[[_Part], Mapping[str, int]]) -> Reader:
    """Numbers of each site by one more label, of one protocol."""
    return of_site_and(lambda site: read(site.part(kind)))
