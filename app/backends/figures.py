"""The figures of requests to sites' backends: authUrl, updateUserUrl and the JWKS of issuers."""

from collections import Counter

from app.observe.counts import Durations
from app.observe.metric import BY_RESULT, SITE, Kind, Metric, of_part, of_part_and


class BackendCounts:
    """The numbers of one site's backend. Lives as long as the site's counts."""

    __slots__ = (
        "auth_breaker",
        "auth_seconds",
        "auth_wait_seconds",
        "auths",
        "auths_in_flight",
        "auths_waiting",
        "jwks_reads",
        "user_updates",
    )

    def __init__(self) -> None:
        #: By result.
        self.auths: Counter[str] = Counter()
        self.auth_seconds = Durations()
        #: Requests without an answer yet.
        self.auths_in_flight = 0
        #: Connects that wait for their turn now.
        self.auths_waiting = 0
        #: The waits of the connects that had to wait.
        self.auth_wait_seconds = Durations()
        #: 0: closed, 1: half-open, 2: open.
        self.auth_breaker = 0
        #: By result.
        self.user_updates: Counter[str] = Counter()
        #: The answers of JWKS, by result.
        self.jwks_reads: Counter[str] = Counter()


METRICS = (
    Metric(
        Kind.COUNTER, "recado_auths", "Answers of authUrl.", BY_RESULT, of_part_and(BackendCounts, lambda s: s.auths)
    ),
    Metric(
        Kind.HISTOGRAM,
        "recado_auth_seconds",
        "Time of authUrl.",
        SITE,
        of_part(BackendCounts, lambda s: s.auth_seconds),
    ),
    Metric(
        Kind.GAUGE,
        "recado_auths_waiting",
        "Connects that wait for their turn at authUrl.",
        SITE,
        of_part(BackendCounts, lambda s: s.auths_waiting),
    ),
    Metric(
        Kind.HISTOGRAM,
        "recado_auth_wait_seconds",
        "Wait of a connect for its turn at authUrl, where there was one.",
        SITE,
        of_part(BackendCounts, lambda s: s.auth_wait_seconds),
    ),
    Metric(
        Kind.GAUGE,
        "recado_auth_breaker",
        "Whether authUrl is asked: 0 yes, 1 to see whether it answers again, 2 no.",
        SITE,
        of_part(BackendCounts, lambda s: s.auth_breaker),
    ),
    Metric(
        Kind.COUNTER,
        "recado_user_updates",
        "Requests to updateUserUrl.",
        BY_RESULT,
        of_part_and(BackendCounts, lambda s: s.user_updates),
    ),
    Metric(
        Kind.COUNTER,
        "recado_jwks_reads",
        "Requests for the keys of issuers.",
        BY_RESULT,
        of_part_and(BackendCounts, lambda s: s.jwks_reads),
    ),
)
