"""The scripts of the checkout say what they do and what went wrong; with stand-ins for npm and Python."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import run
from tests.support.processes import REPOSITORY

#: A stand-in for Python: notes its arguments, and makes an environment whose own Python is the same.
_PYTHON = """#!/bin/sh
echo "$0 $*" >>"$CALLS"
case "$*" in
    *"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python && touch .venv/has-pip;;
    *"-m pip --version"*) [ -e .venv/has-pip ];;
esac
"""


class Checkout:
    """A copy of the scripts with commands of the test's own in PATH. Lives for the test."""

    def __init__(self, root: Path) -> None:
        """Copy the scripts, and the files that they look at."""
        self.root = root
        shutil.copytree(REPOSITORY / "scripts", root / "scripts")
        for name in ("pyproject.toml", "requirements.lock"):
            shutil.copy(REPOSITORY / name, root)
        self.calls = root / "calls"
        (root / "bin").mkdir()

    def command(self, name: str, text: str) -> None:
        """Put a command into PATH."""
        file = self.root / "bin" / name
        file.write_text(text)
        file.chmod(0o755)

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script to its end."""
        path = f"{self.root / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"
        environment = {"PATH": path, "CALLS": str(self.calls), "HOME": str(self.root)}
        command = ["sh", str(self.root / "scripts" / script)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout in which nothing is installed."""
    return Checkout(tmp_path)


def test_clients_that_cannot_be_fetched(checkout: Checkout) -> None:
    """The words of npm are shown, with what to do; nothing half-made stays, and the status is a failure."""
    checkout.command("npm", "#!/bin/sh\necho 'npm error network down' >&2\nexit 7\n")
    done = checkout.run("fetch-clients")
    assert done.returncode == 1
    assert "npm error network down" in done.stderr
    assert "check its registry and your network, then run this again" in done.stderr
    assert not list(checkout.root.glob("app/static/vendor/*"))


def test_clients_without_npm(checkout: Checkout) -> None:
    """Without npm the script says what is missing, and what it costs."""
    for name in ("sh", "dirname", "mktemp", "rm", "cat"):
        (checkout.root / "bin" / name).symlink_to(f"/bin/{name}")
    environment = {"PATH": str(checkout.root / "bin")}
    done = subprocess.run(
        ["/bin/sh", str(checkout.root / "scripts/fetch-clients")], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "npm is missing, so /socket.io/socket.io.js?v=1 lacks socket.io-1.js" in done.stderr


def test_an_environment_without_pip_is_made_again(checkout: Checkout) -> None:
    """An interrupted installation has left a .venv without pip: the next run makes it again, and says what it does."""
    checkout.command("python3", _PYTHON)
    broken = checkout.root / ".venv/bin/python"
    broken.parent.mkdir(parents=True)
    shutil.copy(checkout.root / "bin/python3", broken)
    done = checkout.run("install")
    assert done.returncode == 0, done.stderr
    assert "-m venv --clear .venv" in checkout.calls.read_text()
    assert "installing the libraries of requirements.lock into .venv" in done.stderr


def test_nothing_is_installed_twice(checkout: Checkout) -> None:
    """A second run ends at once, without a word."""
    checkout.command("python3", _PYTHON)
    assert checkout.run("install").returncode == 0
    checkout.calls.unlink()
    done = checkout.run("install")
    assert (done.returncode, done.stderr, checkout.calls.exists()) == (0, "", False)


def test_python_that_is_too_old(checkout: Checkout) -> None:
    """Without a Python that is new enough the script names the version and the variable."""
    for name in ("python3", "python3.13", "python3.12", "python3.11"):
        checkout.command(name, "#!/bin/sh\nexit 1\n")
    done = checkout.run("install")
    assert done.returncode == 1
    assert "expected Python 3.11 or later; name it with PYTHON=" in done.stderr


def test_the_longest_files_of_tests_are_there() -> None:
    """The files with which a parallel run begins exist, each once: a name that is left behind would mean nothing."""
    assert [name for name in run.LONGEST if not (REPOSITORY / "tests" / name).is_file()] == []
    assert len(set(run.LONGEST)) == len(run.LONGEST)
