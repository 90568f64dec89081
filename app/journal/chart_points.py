"""The points of a chart, as values."""

from msgspec import Struct


class ChartPoint(Struct):
    """The samples of one time, of all nodes."""

    #: In ms since the epoch.
    at: int
    #: See `samples.py`. A figure that is missing is 0.
    figures: dict[str, float]
    #: From the writing of a message to its ack; None: there was no ack.
    p50_ms: float | None = None
    p99_ms: float | None = None
    #: The nodes that it is of.
    nodes: int = 0


class Chart(Struct):
    """Points, oldest first."""

    points: list[ChartPoint]
    #: Whether older rows than MOST_ROWS are missing.
    is_cut: bool = False
