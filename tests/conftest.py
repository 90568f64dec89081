"""Fixtures of the tests that drive the whole product, and the processes' output in the report of a failing test."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Generator, Iterator

import pytest

from app.redis.client import Redis
from tests.support.background import BackgroundLoop
from tests.support.browser import Browser
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.node_clients import NodeClients
from tests.support.processes import ChildProcess
from tests.support.python_clients import PythonClients
from tests.support.sites import contract_sites
from tests.support.store import linked, running_valkey
from tests.support.tenant import Tenant
from tests.support.valkey import Valkey

_LOG_START = pytest.StashKey[dict[ChildProcess, int]]()
_LOG_LINES_SHOWN = 100
_MEASURED = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `scripts/test`."""
    parser.addoption(
        "--long", action="store_true", help="run the long tests too, and the others that have one at length"
    )
    parser.addoption(
        "--seed", type=int, help="what random tests do follows from it; a failing test prints the one it had"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose a seed unless one was given."""
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(2**32)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Report the measurements of the tests."""
    if lines := config.stash.get(_MEASURED, []):
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(line)


def pytest_report_header(config: pytest.Config) -> str:
    """Report the seed, so that a failing run can be repeated."""
    return f"Using --seed={config.option.seed}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the long tests, unless they were asked for."""
    if config.option.long:
        return
    long = {item for item in items if item.get_closest_marker("long") or _is_second_run(item)}
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


def _is_second_run(item: pytest.Item) -> bool:
    """Whether this is a contract test with two nodes that is not about one kind of
    client: one node proves nearly as much."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return parameters.get("deployment") == 2 and "kind" not in parameters


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember how much each process has written when a test begins."""
    item.stash[_LOG_START] = {process: len(process.lines) for process in ChildProcess.started}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach what each process wrote during a failed test."""
    report = yield
    if report.failed:
        for process in ChildProcess.started:
            lines = process.lines.snapshot()[item.stash[_LOG_START].get(process, 0) :]
            if lines:
                report.sections.append((f"{process.name} {process.pid}", "\n".join(lines[-_LOG_LINES_SHOWN:])))
    return report


@pytest.fixture
def is_long(pytestconfig: pytest.Config) -> bool:
    """Whether a test that can be short or long runs its long form."""
    return bool(pytestconfig.option.long)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """The test's own random source: the same for the same --seed."""
    seed = request.config.option.seed
    print(f"--seed={seed}")
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Writes a measurement below the run's results, and beside the test if it fails."""
    lines = request.config.stash.setdefault(_MEASURED, [])

    def write(text: str) -> None:
        print(text)
        lines.append(f"{request.node.name}: {text}")

    return write


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[Valkey]:
    """A Valkey for all tests that use the store within this process."""
    with running_valkey() as server:
        yield server


@pytest.fixture
def valkey(shared_valkey: Valkey) -> Valkey:
    """The shared Valkey, emptied."""
    shared_valkey.client.flushall()
    return shared_valkey


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    """A link to the Valkey of the tests."""
    async with linked(valkey) as redis:
        yield redis


@pytest.fixture(scope="session")
def background() -> Iterator[BackgroundLoop]:
    """The loop on which the tenant's backend and the Python clients run."""
    loop = BackgroundLoop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def tenant(background: BackgroundLoop) -> Iterator[Tenant]:
    """The tenant's backend; each test creates users of its own."""
    backend = Tenant(background)
    yield backend
    backend.close()


@pytest.fixture(scope="session")
def drivers(background: BackgroundLoop) -> Iterator[Drivers]:
    """The client libraries."""
    node = NodeClients()
    yield Drivers(node, PythonClients(background))
    node.end()
    assert [line for line in node.lines.snapshot() if line.startswith("uncaught")] == []


@pytest.fixture(scope="session", params=[1, 2], ids=["one node", "two nodes"])
def deployment(request: pytest.FixtureRequest, tenant: Tenant) -> Iterator[Deployment]:
    """The server of the contract suite: one node, and two nodes behind a balancer that is not sticky.

    Tests share it, so each test uses users and rooms of its own.
    """
    # The log level is the most detailed one, so that the search for secrets in the log covers everything.
    server = Deployment(contract_sites(tenant), {"log_level": "debug"}, nodes=request.param)
    yield server
    server.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    chromium = Browser()
    yield chromium
    chromium.end()


@pytest.fixture
def connect(deployment: Deployment, drivers: Drivers) -> Iterator[Connector]:
    """Opens clients, which are closed when the test ends."""
    connector = Connector(deployment, drivers)
    yield connector
    connector.close()
