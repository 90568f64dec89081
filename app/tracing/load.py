"""Turns tracing on where the settings say so. Without that no package of OpenTelemetry is imported."""

from importlib import import_module

from app.config.settings import Config
from app.errors import ConfigError
from app.observe.counts import Counts
from app.tracing.counts import TracingCounts
from app.tracing.spans import Spans
from app.tracing.tracing import Tracing

_ADAPTER = "app.tracing.export"
_MISSING = (
    "tracing: expected the packages of the extra `tracing`, install them, for instance: pip install 'recado[tracing]'"
)


def check_tracing_packages(config: Config) -> None:
    """Raises ConfigError where the setting is on and its packages are missing."""
    if config.trace_endpoint is not None:
        try:
            import_module(_ADAPTER)
        except ImportError:
            raise ConfigError(_MISSING) from None


def open_tracing(config: Config, node: str, counts: Counts) -> Tracing | None:
    """The tracing of a node; None: the setting is off. Raises ConfigError."""
    if config.trace_endpoint is None:
        return None
    check_tracing_packages(config)
    own = counts.part(TracingCounts)
    spans: Spans = import_module(_ADAPTER).SdkSpans(config, node, own)
    return Tracing(config.trace_sample, spans, own)
