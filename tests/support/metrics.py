"""A node's metrics as a test reads them."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from tests.support.endpoint import Endpoint


class Figures:
    """The answer of /metrics at one moment."""

    def __init__(self, deployment: Endpoint) -> None:
        """Read /metrics now."""
        answer = deployment.get("/metrics")
        assert answer.status_code == 200, answer.text
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    def __call__(self, name: str, labels: Mapping[str, str] | None = None, **more: str) -> float:
        """The value of a sample; 0 when the sample does not exist yet."""
        return self._samples.get((name, frozenset({**(labels or {}), **more}.items())), 0.0)

    def of(self, *names: str) -> dict[str, float]:
        """Every sample of these metrics that is not 0, by its name and labels."""
        return {
            f"{name}{sorted(labels)}": value
            for (name, labels), value in self._samples.items()
            if name in names and value
        }
