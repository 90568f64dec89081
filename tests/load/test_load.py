"""The load test of a whole server: its totals, its bounds, its end, and that nobody else hears of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.console.entry import TOKEN_PREFIX
from app.console.sql_operators import SqlOperators
from app.digests import digest
from app.journal.database import open_database
from app.load.plan import MAX_SECONDS
from tests.support.connector import Connector, Drivers, without_fences
from tests.support.deployment import Deployment
from tests.support.forks import run_command
from tests.support.metrics import Figures
from tests.support.processes import descendants
from tests.support.server import clean_environment
from tests.support.sites import load_sites
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

NAME = "boss"
TOKEN = TOKEN_PREFIX + "t" * 32


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The database of this module's server."""
    return f"sqlite:///{tmp_path_factory.mktemp('journal') / 'journal.sqlite'}"


@pytest.fixture(scope="module")
def deployment(tenant: Tenant, database: str) -> Iterator[Deployment]:
    """A server with a canary, a journal and an administrator with a token."""
    operator = {"RECADO_OPERATOR": NAME, "RECADO_OPERATOR_PASSWORD": "a password of the test"}
    environment = {"DATABASE_URL": database, "RECADO_CANARY": "true", **operator}
    server = Deployment(load_sites(tenant), environment=environment)
    eventually(lambda: asyncio.run(make_token(database)), "the operator", 60, interval_seconds=0.3)
    yield server
    server.end()


async def make_token(database: str) -> bool:
    """Gives the administrator its token; False while the server has not made the administrator."""
    engine = open_database(database, is_writer=True)
    try:
        store = SqlOperators(engine)
        operator = await store.find(NAME)
        return operator is not None and await store.add_token(operator.id, "test", digest(TOKEN))
    except Exception:
        # The tables are being made.
        return False
    finally:
        await engine.dispose()


class Api:
    """The operations of the load test, as an administrator calls them."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def ask(self, method: str, path: str = "", status: int = 200, **body: Any) -> dict[str, Any]:
        """The answer, which has this status."""
        sent = {"json": body} if body or method == "POST" else {}
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = self._deployment.request(method, f"/api/v1/load{path}", headers=headers, **sent)
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait(self, id: int) -> dict[str, Any]:
        """The run once it has ended."""
        eventually(lambda: self.ask("GET", f"/{id}")["state"] != "running", "the end of the run", 90)
        return self.ask("GET", f"/{id}")


@pytest.fixture
def api(deployment: Deployment) -> Api:
    """The API of the server."""
    return Api(deployment)


def test_a_run(api: Api, deployment: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """Every message of every device reaches every device and is acknowledged; the totals say so. No client of a tenant
    hears of it, no metric of a site counts it, and nothing of it is in the journal."""
    connector = Connector(deployment, drivers)
    user = tenant.user()
    bystander = connector("one", user)
    before = Figures(deployment).of("recado_sends_total", "recado_deliveries_total")
    id = api.ask("POST", devices=5, messages=4, description="a first one")["id"]
    found = api.wait(id)
    assert (found["state"], found["description"], found["operator"]) == ("done", "a first one", NAME), found
    counts = {"received": 20, "forwarded": 20, "sent": 100, "stored": 100}
    receipts = {"receipts_received": 100, "receipts_stored": 100}
    assert found["totals"]["counts"] == {**counts, **receipts, "operations": 440}
    assert (found["totals"]["refused"], found["totals"]["lost"]) == (0, 0)
    times = found["totals"]["delivery_ms"]
    assert 0 < times["least"] <= times["p50"] <= times["p99"] <= times["most"]
    assert Figures(deployment).of("recado_sends_total", "recado_deliveries_total") == before
    connector.fence("one", user.room, bystander)
    assert without_fences(bystander) == []
    query = {"site": "one", "apiKey": deployment.key("one")}
    assert "load" not in [one["event"] for one in deployment.get("/messages", params=query).json()["messages"]]
    connector.close()


def test_runs_are_kept_and_compared(api: Api) -> None:
    """Runs are listed newest first, page by page, and compared; a removed one is gone."""
    ids = [api.ask("POST", devices=1, messages=1, description=f"run {number}")["id"] for number in range(1)]
    api.wait(ids[0])
    ids.append(api.ask("POST", devices=2, messages=1)["id"])
    api.wait(ids[1])
    page = api.ask("GET", "?limit=1")
    assert [one["id"] for one in page["items"]] == [ids[1]]
    assert api.ask("GET", f"?limit=1&cursor={page['cursor']}")["items"][0]["id"] == ids[0]
    compared = api.ask("GET", f"/{ids[0]}/compare?other={ids[1]}")
    assert [run["id"] for run in compared["runs"]] == ids
    assert "delivery_ms.p99" in [row["total"] for row in compared["rows"]]
    assert api.ask("DELETE", f"/{ids[0]}")["ok"]
    assert api.ask("GET", f"/{ids[0]}", 404)["code"] == "unknown_run"


@pytest.mark.parametrize(
    "plan",
    [
        {"devices": 501},
        {"messages": 10_001},
        {"seconds": MAX_SECONDS + 1},
        {"devices": 0},
        {"devices": 500, "messages": 1000},
        {"devices": 200, "messages": 60},
        {"description": "x" * 201},
        {"rooms": ["user_8"]},
    ],
)
def test_bounds_are_not_passed(api: Api, plan: dict[str, Any]) -> None:
    """A run past a bound is refused, and none names other rooms."""
    assert api.ask("POST", status=400, **plan)["ok"] is False


def test_one_at_a_time_and_the_stop(api: Api, deployment: Deployment) -> None:
    """While a run is under way a further one is refused; a stop ends its process at once."""
    id = api.ask("POST", devices=100, messages=50, seconds=100)["id"]
    assert api.ask("POST", status=409)["code"] == "running"
    assert api.ask("DELETE", f"/{id}", 409)["code"] == "running"
    eventually(lambda: len(devices_of(deployment)) == 1, "the process of the devices", 60)
    assert api.ask("POST", f"/{id}/stop")["ok"]
    assert api.wait(id)["state"] == "stopped"
    assert devices_of(deployment) == []
    assert api.ask("POST", f"/{id}/stop", 409)["code"] == "not_running"


def test_the_time_is_a_bound(api: Api) -> None:
    """A run that is not through when its time is over ends with the totals so far."""
    id = api.ask("POST", devices=60, messages=130, seconds=1)["id"]
    found = api.wait(id)
    assert found["state"] == "done", found
    assert found["totals"]["seconds"] < 20
    assert found["totals"]["counts"]["received"] < 60 * 130


def devices_of(deployment: Deployment) -> list[int]:
    """The processes of devices below the server."""
    pids = descendants(deployment.server.pid)
    return [pid for pid in pids if b"load-devices" in _command_of(pid)]


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_the_command(deployment: Deployment) -> None:
    """`recado load run` waits for the totals and prints them; `list` and `show` read them; a wrong token is a line."""

    def run(*words: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
        environment = clean_environment(RECADO_TOKEN=token)
        return run_command(("load", *words, "--url", deployment.url), deployment.directory, environment, 90)

    done = run("run", "--devices", "2", "--messages", "3", "--description", "by command", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["totals"]["counts"]["sent"] == 12
    assert "by command" in run("list").stdout
    shown = run("show", str(found["id"])).stdout
    assert "receipts_stored" in shown
    assert "delivery_ms" in shown
    assert "per_second.sent" in run("compare", str(found["id"]), str(found["id"])).stdout
    refused = run("list", token="wrong")
    assert (refused.returncode, "401" in refused.stderr) == (1, True)
