"""The figures of files."""

from collections import Counter

from app.observe.metric import BY_RESULT, Kind, Metric, of_part_and


class FilesCounts:
    """The numbers of one site's files. Lives as long as the site's counts."""

    __slots__ = ("bytes", "requests")

    def __init__(self) -> None:
        #: Requests by status.
        self.requests: Counter[str] = Counter()
        #: Bytes by direction: upload, download.
        self.bytes: Counter[str] = Counter()


METRICS = (
    Metric(
        Kind.COUNTER,
        "recado_files_requests",
        "Requests for files.",
        BY_RESULT,
        of_part_and(FilesCounts, lambda p: p.requests),
    ),
    Metric(
        Kind.COUNTER,
        "recado_files_bytes",
        "Bytes of files.",
        ("site", "direction"),
        of_part_and(FilesCounts, lambda p: p.bytes),
    ),
)
