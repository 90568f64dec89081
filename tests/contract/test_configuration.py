"""Contract, "Configuration": files, environment, their precedence, and the one-line error for a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.forks import run_command
from tests.support.server import clean_environment
from tests.support.sites import contract_sites
from tests.support.tenant import SECRET, Tenant

SITE = {"authUrl": "http://127.0.0.1:9/rooms", "apiKey": f"{SECRET}-key", "userRoomPrefix": "user_"}


@pytest.fixture(scope="module")
def by_environment(tenant: Tenant) -> Iterator[Deployment]:
    """A server whose one site and device_ttl come from environment variables alone, as a PaaS sets them."""
    environment = {
        "SITE_NAME": "solo",
        "AUTH_URL": f"{tenant.url}/solo/rooms",
        "AUTH_SCHEME": "Solo",
        "API_KEY": f"{SECRET}-key-solo",
        "USER_ROOM_PREFIX": "user_",
        "UPDATE_USER_URL": f"{tenant.url}/solo/users/:id",
        "PUBLIC_CHANNEL": "everyone",
        "DEVICE_TTL": "77",
    }
    server = Deployment({}, environment=environment)
    yield server
    server.end()


def test_site_from_the_environment(by_environment: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """With SITE_NAME the site's settings, and DEVICE_TTL, come from the environment."""
    connect = Connector(by_environment, drivers)
    user = tenant.user()
    client = connect("solo", user)
    assert client.wait_event("_settings").args == [{"device_ttl": 77}]
    query = {"site": "solo", "apiKey": f"{SECRET}-key-solo"}
    assert by_environment.post(params=query, json={"rooms": [user.room], "event": "news"}).status_code == 200
    client.wait_event("news")
    assert tenant.requests_of(user.token)[0].headers["authorization"] == f"Solo {user.token}"
    assert tenant.wait_for_update(user.token, "last_connected").path == f"/solo/users/{user.id}"
    connect.close()


CONFIG_MISTAKES = {
    "unknown key": ({"production": {"prot": 1337}}, "prot"),
    "unknown key below": ({"production": {"redis": {"uri": "redis://x"}}}, "redis.uri"),
    "wrong type": ({"production": {"device_ttl": "soon"}}, "device_ttl"),
    "negative": ({"production": {"device_ttl": -1}}, "device_ttl"),
    "worker": ({"production": {"flakeid": {"worker": 32}}}, "flakeid.worker"),
    "ping": ({"production": {"io": {"pingInterval": "x"}}}, "io.pingInterval"),
    "scheme": ({"production": {"redis": {"url": "http://x"}}}, "redis.url"),
}
SITE_MISTAKES = {
    "unknown key": ({"alpha": {**SITE, "authURL": "x"}}, "authURL"),
    "no authUrl": ({"alpha": {"apiKey": "k"}}, "authUrl"),
    "no apiKey": ({"alpha": {"authUrl": "http://127.0.0.1:9/"}}, "apiKey"),
    "wrong type": ({"alpha": {**SITE, "userRoomPrefix": ["user_"]}}, "userRoomPrefix"),
    "no URL": ({"alpha": {**SITE, "authUrl": "rooms"}}, "authUrl"),
    "no mapping": ({"alpha": 5}, "alpha"),
}


@pytest.mark.parametrize(
    ("file", "content", "key"),
    [
        pytest.param(file, *case, id=f"{file}: {name}")
        for file, cases in (("config.yml", CONFIG_MISTAKES), ("sites.yml", SITE_MISTAKES))
        for name, case in cases.items()
    ],
)
def test_mistakes(tmp_path: Path, file: str, content: object, key: str) -> None:
    """A mistake in a file gives one clear line that names the file and the key,
    and exit status 2; no API key is shown."""
    (tmp_path / file).write_text(yaml.safe_dump(content))
    status, output = _run(tmp_path, "check-config")
    assert status == 2
    (line,) = output.strip().splitlines()
    assert file in line
    assert key.rpartition(".")[2] in line
    assert SECRET not in line


def test_serve_with_a_mistake(tmp_path: Path) -> None:
    """`recado serve` with a mistake in a file ends as `check-config` does: one line, exit status 2."""
    (tmp_path / "sites.yml").write_text("alpha: 5")
    assert _run(tmp_path, "serve") == _run(tmp_path, "check-config")
    assert _run(tmp_path, "serve")[0] == 2


def test_unreachable_file(tmp_path: Path) -> None:
    """A file that is named but missing gives one line and exit status 2; a file that is not named may be missing."""
    status, output = _run(tmp_path, "check-config", "--sites", "elsewhere.yml")
    assert (status, len(output.strip().splitlines())) == (2, 1)
    assert "elsewhere.yml" in output
    assert _run(tmp_path, "check-config")[0] == 0


def test_files_in_the_working_directory(tmp_path: Path) -> None:
    """config.yml and sites.yml are read from the working directory, or from the
    paths in RECADO_CONFIG and RECADO_SITES."""
    (tmp_path / "sites.yml").write_text("alpha: 5")
    assert _run(tmp_path, "check-config")[0] == 2
    (tmp_path / "good.yml").write_text(yaml.safe_dump({"alpha": SITE}))
    assert _run(tmp_path, "check-config", RECADO_SITES="good.yml")[0] == 0


def test_check_config_accepts_the_suite_s_own_sites(tmp_path: Path, tenant: Tenant) -> None:
    """`recado check-config` accepts a good configuration with exit status 0."""
    (tmp_path / "sites.yml").write_text(yaml.safe_dump(contract_sites(tenant)))
    assert _run(tmp_path, "check-config")[0] == 0


def _run(directory: Path, command: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run the command in a directory and return its exit status and what it wrote to stderr."""
    done = run_command((command, *arguments), directory, clean_environment(**environment))
    return done.returncode, done.stderr
