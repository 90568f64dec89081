"""The nodes of deployments are forked from a process that has loaded the product: they are as the command's own."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.forks import run_command
from tests.support.server import ForkedServer, clean_environment


@pytest.mark.parametrize(
    ("arguments", "environment", "status"),
    [(["check-config"], {"RECADO_WORKERS": "many"}, 2), (["sites", "list"], {"DATABASE_URL": "sqlite:///a"}, 1)],
    ids=["wrong configuration", "failure"],
)
def test_a_forked_command_is_as_the_real_one(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], status: int
) -> None:
    """Arguments, environment and folder reach a forked command; its output and exit status are those of a real one."""
    given = clean_environment(**environment)
    command = [sys.executable, "-m", "app", *arguments]
    real = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, check=False, timeout=60, text=True)
    forked = run_command(arguments, tmp_path, given)
    assert (forked.returncode, forked.stdout, forked.stderr) == (real.returncode, real.stdout, real.stderr)
    assert forked.returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_signals(tmp_path: Path, number: signal.Signals) -> None:
    """A forked server hears signals: it ends in order, or is killed, and leaves no process."""
    server = ForkedServer(tmp_path, "--port", "0", "--demo", "--data-dir", str(tmp_path / "data"))
    try:
        assert server.returncode is None
        server.signal(number)
        assert server.wait(60) == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        server.signal(number)
    finally:
        server.end()
