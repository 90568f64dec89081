"""The plain HTTP paths beside /send, as the clients and backends of socket.io-webservice know them."""

from __future__ import annotations

import pytest

from tests.support.deployment import Deployment


def test_healthcheck(deployment: Deployment) -> None:
    """`GET /healthcheck` answers 200 `ok`."""
    answer = deployment.get("/healthcheck")
    assert (answer.status_code, answer.text) == (200, "ok")


@pytest.mark.parametrize(("query", "version"), [("", "4.8"), ("?v=4", "4.8"), ("?v=2", "2.5"), ("?v=1", "")])
def test_client_bundle(deployment: Deployment, query: str, version: str) -> None:
    """`GET /socket.io/socket.io.js` serves the 4.x client bundle, with `?v=` another one."""
    answer = deployment.get(f"/socket.io/socket.io.js{query}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] in ("text/javascript", "application/javascript")
    # The bundle of 1.x does not name its version.
    assert f"Socket.IO v{version}" in answer.text[:200] if version else "Socket.IO v" not in answer.text


@pytest.mark.parametrize("path", ["/", "/nothing", "/send/more", "/socket.io", "/socket.io/nothing", "/%FF%00", "//"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_other_paths(deployment: Deployment, method: str, path: str) -> None:
    """An unknown path or method is answered as the client's mistake (4xx), never as the server's failure (5xx)."""
    answer = deployment.request(method, path)
    assert answer.status_code < 500
