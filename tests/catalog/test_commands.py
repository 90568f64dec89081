"""`recado sites ...` and `recado reload`, beside a server with two workers and its own Valkey."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.channels import channels_site
from tests.support.forks import run_command
from tests.support.server import Server, clean_environment
from tests.support.tenant import SECRET, Tenant
from tests.support.waiting import eventually


class Shell:
    """The folder of a server, and its commands. Lives as long as the module."""

    def __init__(self, directory: Path) -> None:
        """Start the server."""
        self.directory = directory
        self._environment = {"DATABASE_URL": f"sqlite:///{directory / 'journal.sqlite'}"}
        (directory / "sites.yml").write_text(yaml.safe_dump({"filed": channels_site()}))
        self.server = Server(directory, "--port", "0", "--workers", "2", **self._environment)

    def run(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """Run a command; its output."""
        done = run_command(arguments, self.directory, clean_environment(**{**self._environment, **environment}))
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def write(self, block: dict[str, Any]) -> str:
        """Write a block into a file; its name."""
        (self.directory / "block.yml").write_text(yaml.safe_dump(block))
        return "block.yml"

    def status(self, site: str, key: str) -> set[int]:
        """The answers to some messages, each on a connection of its own, so that both workers get some."""
        url, query = f"{self.server.url}/send", {"site": site, "apiKey": key}
        body = {"rooms": "user_nobody", "event": "news"}
        return {httpx.post(url, params=query, json=body).status_code for _ in range(8)}

    def wait(self, site: str, key: str, status: int) -> None:
        """Wait until every worker answers so."""
        eventually(lambda: self.status(site, key) == {status}, f"{status} of both workers")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The server and its commands."""
    shell = Shell(tmp_path_factory.mktemp("shell"))
    yield shell
    shell.server.end()


def test_the_life_of_a_site(shell: Shell, tenant: Tenant) -> None:
    """A site is added, tried, changed, given another key and removed from a shell; both workers follow."""
    block = {"authUrl": f"{tenant.url}/shop/rooms", "authScheme": "Token", "userRoomPrefix": "user_"}
    added = shell.run("sites", "add", "shop", shell.write(block))
    key = added.rpartition(" ")[2].strip()
    assert added == f"OK site shop added, apiKey: {key}\n"
    shell.wait("shop", key, 200)
    user = tenant.user()
    assert shell.run("sites", "try", "shop", "--token", user.token).endswith(f'["{user.room}"]\n')
    assert "Authentication failed" in shell.run("sites", "try", "shop", "--token", f"{SECRET}-none", status=1)
    assert shell.run("sites", "list").splitlines()[1].split()[:2] == ["shop", "live"]

    second = shell.run("sites", "rotate-key", "shop").strip()
    shell.wait("shop", second, 200)
    assert shell.status("shop", key) == {200}
    eventually(lambda: shell.run("sites", "show", "shop").count("Z") == 4, "when both keys were made and used")
    assert key not in shell.run("sites", "show", "shop")
    shown = [line.split() for line in shell.run("sites", "show", "shop", "--keys").splitlines()]
    name = next(line[0] for line in shown if line[-1:] == [key])
    shell.run("sites", "remove-key", "shop", name)
    shell.wait("shop", key, 401)

    assert shell.run("sites", "change", "shop", shell.write({"channels": {}})) == "OK site shop changed\n"
    eventually(lambda: httpx.get(f"{shell.server.url}/channels/shop/client.js").status_code == 200, "its channels")
    assert shell.run("sites", "remove", "shop", "--yes") == "OK site shop is being removed\n"
    shell.wait("shop", second, 401)


def test_refusals(shell: Shell) -> None:
    """A command that changes nothing says why in a line for each mistake."""
    broken = shell.run("sites", "add", "broken", shell.write({"authUrl": "x", "devicettl": 1}), status=2)
    assert broken.splitlines() == [
        "recado: broken.authUrl: expected a URL that begins with http:// or https://, without user name",
        "recado: broken.devicettl: unknown key, did you mean device_ttl?",
    ]
    assert shell.run("sites", "add", "filed", shell.write({"topics": {}}), status=1) == (
        "recado: site 'filed' is in sites.yml: change it there\n"
    )
    assert "there is no stored site 'none'" in shell.run("sites", "remove", "none", "--yes", status=1)
    assert "DATABASE_URL is missing" in shell.run(
        "sites", "list", status=1, DATABASE_URL="none", REDIS_URL="redis://127.0.0.1:1"
    )
    (shell.directory / "long.yml").write_text("a: " + "x" * 70_000)
    assert "expected at most 65536 bytes" in shell.run("sites", "add", "long", "long.yml", status=1)


def test_reload(shell: Shell) -> None:
    """`recado reload` has the supervisor and both workers read sites.yml again; one with a mistake changes nothing."""
    sites = yaml.safe_load((shell.directory / "sites.yml").read_text())
    (shell.directory / "sites.yml").write_text("filed: {apikey: x}")
    assert "unknown key" in shell.run("reload", status=2)
    fresh = {**sites, "fresh": channels_site()}
    (shell.directory / "sites.yml").write_text(yaml.safe_dump(fresh))
    assert shell.run("reload") == "OK every node reads its files again\n"
    shell.wait("fresh", str(fresh["fresh"]["apiKey"]), 200)
    assert shell.status("filed", str(fresh["filed"]["apiKey"])) == {200}
    assert not [line for line in shell.server.log() if line.get("event") == "worker ended"]
    assert shell.server.returncode is None
