"""Further processes of the program, wherever it is started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.node.own_program import own_program
from tests.support.processes import REPOSITORY


def test_a_folder_with_an_app_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An `app.py` in the working folder is not taken for the program."""
    (tmp_path / "app.py").write_text("print('somebody else')")
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    found = subprocess.run(own_program("--version"), capture_output=True, text=True, env=environment, check=True)
    assert found.stdout.startswith("recado ")


def test_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is not installed, as platforms run it, is found in the folder from which it is started."""
    monkeypatch.chdir(REPOSITORY)
    assert own_program("worker") == [sys.executable, "-m", "app", "worker"]
