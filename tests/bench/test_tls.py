"""The scenario of TLS runs in miniature."""

from bench.__main__ import run
from bench.scale import TINY


def test_tls_is_measured() -> None:
    """Connects and both fan-outs are measured over TLS, under the name of the server."""
    results = run(TINY, ["tls"], ["recado", "floor"], is_pinned=False)
    names = ("connect, TLS", "fan-out acked, TLS", "fan-out plain, TLS")
    assert {name: set(contenders) for name, contenders in results.samples.items()} == {
        name: {"recado"} for name in names
    }
