"""Fixtures of the tests that drive the whole product, and the processes' output in the report of a failing test."""

from __future__ import annotations

import gc
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from app.redis.client import Redis
from tests.support import matrix, run, waiting
from tests.support.background import BackgroundLoop
from tests.support.browser import Browser
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.node_clients import NodeClients
from tests.support.postgres import Postgres, running_postgres
from tests.support.processes import ChildProcess
from tests.support.python_clients import PythonClients
from tests.support.sites import contract_sites
from tests.support.store import linked, running_valkey
from tests.support.tenant import Tenant
from tests.support.turns import Turns
from tests.support.valkey import Valkey

_LOG_START = pytest.StashKey[dict[ChildProcess, int]]()
_LOG_LINES_SHOWN = 100
_TURNS = pytest.StashKey[Turns]()
#: The directory in which the processes of a parallel run take turns. Only the first process has it.
_TURNS_DIRECTORY = pytest.StashKey[Path]()
_MEASURED = "measured"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `scripts/test`."""
    parser.addoption(
        "--long", action="store_true", help="run the long tests too, and the others that have one at length"
    )
    parser.addoption(
        "--write-clients",
        action="store_true",
        help="write docs/tested-clients.md from what this run shows; a run of some tests only adds to it",
    )
    parser.addoption("--write-pictures", action="store_true", help="write the pictures of the console in docs/images")
    parser.addoption(
        "--seed", type=int, help="what random tests do follows from it; a failing test prints the one it had"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose a seed unless one was given. In a parallel run a further process takes seed and turns of the first."""
    run.keep_compiled()
    run.use_memory()
    waiting.wait_for_answers()
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    if workerinput is not None:
        config.option.seed = workerinput["seed"]
        config.stash[_TURNS] = Turns(Path(workerinput["turns"]))
    elif config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(2**32)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """The number of processes of `-n auto`."""
    return run.process_count()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a further process (pytest-xdist) the seed and the directory that all processes share."""
    if _TURNS_DIRECTORY not in node.config.stash:
        node.config.stash[_TURNS_DIRECTORY] = Path(tempfile.mkdtemp(prefix="recado-turns-"))
    node.workerinput["seed"] = node.config.option.seed
    node.workerinput["turns"] = str(node.config.stash[_TURNS_DIRECTORY])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the directory that the processes shared."""
    if directory := config.stash.get(_TURNS_DIRECTORY, None):
        shutil.rmtree(directory, ignore_errors=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Wait for the test's turn. Outside of every other hook, so that no time-out counts the wait."""
    turns = item.config.stash.get(_TURNS, None)
    if turns is None:
        return (yield)
    with turns.turn(is_alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the measurements of the tests."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    lines = _properties(reports, _MEASURED)
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(str(line))


def pytest_report_header(config: pytest.Config) -> str:
    """Report the seed, so that a failing run can be repeated."""
    return f"Using --seed={config.option.seed}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the long tests, unless --long is given. A parallel run begins with the longest files."""
    if hasattr(config, "workerinput"):
        items[:] = run.longest_first(items)
    if config.option.long:
        return
    long = {item for item in items if item.get_closest_marker("long") or _is_second_run(item)}
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


def pytest_collection_finish() -> None:
    """Take the tests themselves, millions of objects, out of each garbage collection and of each count of objects."""
    gc.collect()
    gc.freeze()


def _is_second_run(item: pytest.Item) -> bool:
    """Whether this is a contract test with two nodes that is not about one kind of
    client: one node proves nearly as much."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return parameters.get("deployment") == 2 and "kind" not in parameters


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember the number of output lines of each process at the begin of a test."""
    item.stash[_LOG_START] = {process: len(process.lines) for process in ChildProcess.started}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the output of each process during a failed test."""
    report = yield
    if report.failed:
        for process in ChildProcess.started:
            lines = process.lines.snapshot()[item.stash[_LOG_START].get(process, 0) :]
            if lines:
                report.sections.append((f"{process.name} {process.pid}", "\n".join(lines[-_LOG_LINES_SHOWN:])))
    if report.passed and report.when == "call" and (shown := matrix.shown_by(item)):
        report.user_properties.append((matrix.SHOWN, shown))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Compare what this run shows of the clients with docs/tested-clients.md, or write that page."""
    config = session.config
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or hasattr(config, "workerinput"):
        return
    rows = matrix.gather(_properties(terminal.stats.get("passed", []), matrix.SHOWN))
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and exitstatus == pytest.ExitCode.OK
    is_whole = is_whole and not config.option.keyword and config.option.markexpr in ("", "shows")
    if config.option.collectonly:
        return
    page = matrix.read_page(matrix.PAGE.read_text())
    if config.option.write_clients:
        matrix.PAGE.write_text(matrix.write_page(rows if is_whole else matrix.join(rows, page)))
        return
    wrong = matrix.differences(rows, page, is_whole)
    for line in wrong:
        terminal.write_line(
            f"docs/tested-clients.md: {line}; write it with scripts/test -m shows --write-clients", red=True
        )
    if wrong and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _properties(reports: Iterable[object], kind: str) -> list[Any]:
    calls = [report for report in reports if isinstance(report, pytest.TestReport) and report.when == "call"]
    return [value for report in calls for name, value in report.user_properties if name == kind]


@pytest.fixture(autouse=True)
def loggers_of_no_command(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the loggers of a command that runs in the tests' own process from those of later tests."""
    configure = structlog.configure
    monkeypatch.setattr(
        structlog, "configure", lambda **given: configure(**given | {"cache_logger_on_first_use": False})
    )
    yield
    structlog.reset_defaults()


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

    def write(text: str) -> None:
        print(text)
        # User properties travel with the report, also from another process of the run.
        request.node.user_properties.append((_MEASURED, f"{request.node.name}: {text}"))

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
def shared_postgres() -> Iterator[Postgres]:
    """A PostgreSQL for all tests of this process."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def new_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Makes a database without tables, of the kind `sqlite` or `postgres`; its URL."""

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path_factory.mktemp('database') / 'journal.sqlite'}"
        postgres: Postgres = request.getfixturevalue("shared_postgres")
        return postgres.new_database()

    return make


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


@pytest.fixture(scope="session")
def deployments(tenant: Tenant) -> Iterator[Callable[[int], Deployment]]:
    """Starts the servers of the contract suite, one for each number of nodes, and keeps them."""
    started: dict[int, Deployment] = {}

    def start(nodes: int) -> Deployment:
        if nodes not in started:
            # The server logs at every level, so that the search for secrets in its log means something.
            started[nodes] = Deployment(contract_sites(tenant), {"log_level": "debug"}, nodes=nodes)
        return started[nodes]

    yield start
    for server in started.values():
        server.end()


@pytest.fixture(scope="session", params=[1, 2], ids=["one node", "two nodes"])
def deployment(request: pytest.FixtureRequest, deployments: Callable[[int], Deployment]) -> Deployment:
    """The server of the contract suite: one node, or two behind a balancer without sticky sessions.

    Tests share it, so each test uses users and rooms of its own.
    """
    return deployments(request.param)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; each page has a profile of its own."""
    chromium = Browser()
    yield chromium
    chromium.end()


@pytest.fixture
def connect(deployment: Deployment, drivers: Drivers) -> Iterator[Connector]:
    """Opens clients, which are closed when the test ends."""
    connector = Connector(deployment, drivers)
    yield connector
    connector.close()
