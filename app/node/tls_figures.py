"""The node's figures of TLS, for metrics and pages."""

from collections.abc import Callable
from datetime import UTC, datetime

from app.node.certificates import CertificateFacts
from app.observe.counts import Counts
from app.observe.metric import Kind, Metric, Reader


class TlsFigures:
    """The node's numbers of TLS. Lives as long as the node's counts."""

    def __init__(self) -> None:
        #: None without TLS.
        self.certificate: CertificateFacts | None = None
        self.handshakes: Callable[[], int] | None = None


def _days_left(counts: Counts) -> float | None:
    certificate = counts.part(TlsFigures).certificate
    return None if certificate is None else certificate.days_left(datetime.now(UTC))


def _handshakes(counts: Counts) -> int | None:
    read = counts.part(TlsFigures).handshakes
    return None if read is None else read()


def _where_known(read: Callable[[Counts], float | None]) -> Reader:
    return lambda counts: (((), value) for value in [read(counts)] if value is not None)


METRICS = (
    Metric(
        Kind.GAUGE,
        "recado_tls_certificate_days_left",
        "Days until the certificate of this server ends.",
        (),
        _where_known(_days_left),
    ),
    Metric(Kind.COUNTER, "recado_tls_handshakes", "TLS handshakes that succeeded.", (), _where_known(_handshakes)),
)
