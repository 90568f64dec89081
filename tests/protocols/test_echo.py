"""A protocol is added by its folder (`tests/protocols/echo`) and one entry: everything that it has works, on a real
server with a real client."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import socketio

from tests.support.processes import REPOSITORY, ChildProcess
from tests.support.server import clean_environment
from tests.support.waiting import until

_CONFIG = "production: {host: 127.0.0.1, port: 0, mounts: {echo: shop}}"
_SITES = "shop: {apiKey: k, echo: {prefix: '> '}}\nnews: {apiKey: k, channels: {}}"


class EchoServer(ChildProcess):
    """The server's process. The code that starts it calls `end`."""

    def __init__(self, directory: Path, sites: str = _SITES) -> None:
        """Starts it in `directory`."""
        (directory / "config.yml").write_text(_CONFIG)
        (directory / "sites.yml").write_text(sites)
        command = [sys.executable, "-m", "tests.protocols.echo"]
        super().__init__("echo", command, directory, clean_environment(PYTHONPATH=str(REPOSITORY)))

    @property
    def url(self) -> str:
        """The URL on which the server listens, once it does."""
        lines = self.lines.wait_until(lambda lines: any('"listening"' in line for line in lines), "it to listen", 60)
        return str(next(json.loads(line)["url"] for line in lines if '"listening"' in line))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EchoServer]:
    """A server with the sixth protocol."""
    server = EchoServer(tmp_path)
    yield server
    server.end()


async def test_everything_that_a_protocol_has(server: EchoServer) -> None:
    """The setting, route, original path, namespace, audience and figure of the new protocol work."""
    url = server.url
    heard: list[str] = []
    client: Any = socketio.AsyncClient()  # type: ignore[no-untyped-call]
    client.on("echo", heard.append, namespace="/echo-shop")
    await client.connect(url, namespaces=["/echo-shop"], transports=["websocket"])
    async with httpx.AsyncClient(base_url=url) as http:
        assert (await http.post("/echo/shop", content="hello")).status_code == 204
        assert (await http.post("/say", content="again")).status_code == 204
        assert (await http.post("/echo/news", content="nobody")).status_code == 404
        await until(lambda: len(heard) == 2, "both texts to be heard")
        metrics = (await http.get("/metrics")).text
    assert heard == ["> hello", "> again"]
    assert 'recado_echo_texts_total{site="shop"} 2.0' in metrics
    assert "# HELP recado_echo_texts_total Texts said." in metrics
    await client.disconnect()


def test_its_section_is_checked(tmp_path: Path) -> None:
    """A wrong section of the new protocol stops the start with its own sentence, and an unknown key with the known."""
    for section, sentence in (
        ("{prefix: 'much too long a prefix'}", "shop.echo.prefix: expected at most 10 characters"),
        ("{prefx: x}", "shop.echo.prefx: unknown key, did you mean prefix?"),
    ):
        server = EchoServer(tmp_path, f"shop: {{apiKey: k, echo: {section}}}")
        assert server.wait(20) != 0
        assert sentence in "\n".join(server.lines.snapshot())
        server.end()


def test_nothing_else_knows_it() -> None:
    """No file outside of its folder and this test names the new protocol: it was added by its folder and one entry."""
    named = [
        path
        for folder in ("app", "docs", "scripts")
        for path in (REPOSITORY / folder).rglob("*.py")
        if "protocols.echo" in path.read_text() or "EchoCounts" in path.read_text()
    ]
    assert named == []
    assert os.path.exists(REPOSITORY / "tests/protocols/echo/protocol.py")
