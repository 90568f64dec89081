"""The list of protocols: an entry can be deleted, and an entry can be added, without a change anywhere else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import REPOSITORY

#: Tests of everything but topics, by their subject: each other protocol alone, the node, and real clients.
_OTHERS = (
    "tests/protocols/channels",
    "tests/protocols/redis_publish/test_application.py",
    "tests/protocols/sites/test_application.py",
    "tests/protocols/sites/test_send.py",
    "tests/node/test_build.py",
    "tests/contract/test_channels.py",
    "tests/contract/test_sites_send.py",
)
_OTHERS_AT_LENGTH = ("tests/protocols", "tests/core", "tests/node", "tests/contract/test_sites_queue.py", *_OTHERS[-1:])
#: Without the older kinds of clients.
_NEWEST = ("-k", "not (1.7 or 2.5 or 3.1 or python)")
_LINES = ("from app.protocols.topics.protocol import TOPICS\n", "TOPICS, ")


def checkout(folder: Path) -> Path:
    """A copy of the files of this repository that the tests need, with the installed clients."""
    # The copy keeps the compiled modules: without them most of the time is the compiler's. A file with a further suffix
    # is still being written.
    ignored = shutil.ignore_patterns("node_modules", "vendor", "*.pyc.*")
    for name in ("app", "tests", "docs"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    (folder / "tests/clients/node_modules").symlink_to((REPOSITORY / "tests/clients/node_modules").resolve())
    (folder / "app/static").mkdir(exist_ok=True)
    (folder / "app/static/vendor").symlink_to((REPOSITORY / "app/static/vendor").resolve())
    return folder


@pytest.mark.timeout(900)
def test_without_topics(tmp_path: Path, is_long: bool) -> None:
    """With the line of topics deleted from the list, every other protocol still passes its own tests."""
    copy = checkout(tmp_path)
    listed = copy / "app/protocols/listed.py"
    text = listed.read_text()
    for line in _LINES:
        assert line in text
        text = text.replace(line, "")
    listed.write_text(text)
    others = _OTHERS_AT_LENGTH if is_long else (*_OTHERS, *_NEWEST)
    ignored = [f"--ignore={path.relative_to(copy)}" for path in copy.rglob("test_topic*.py")]
    ignored += ["--ignore=tests/protocols/topics", "--ignore=tests/protocols/test_listed.py"]
    # Both files name the mounts of topics.
    ignored += ["--ignore=tests/node/test_dispatch.py", "--ignore=tests/contract/test_configuration.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ignored, *others]
    run = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-5_000:] + run.stderr[-1_000:]
    assert " passed" in run.stdout
