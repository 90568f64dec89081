"""The folders of sockets: those of dead processes go, and nothing else."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.socket_folder import PREFIX, SocketFolder

_MAKE = (
    "import sys; from app.socket_folder import SocketFolder; print(SocketFolder().path, flush=True); sys.stdin.read()"
)


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of temporary files, of this test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def other(parent: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", _MAKE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={"TMPDIR": str(parent), "PYTHONPATH": str(Path(__file__).parent.parent)},
    ) as process:  # fmt: skip
        assert process.stdout
        path = Path(process.stdout.readline().strip())
        yield process, path
        process.kill()


def test_folder_is_the_users_alone_and_goes(parent: Path) -> None:
    """Only this user may enter it; after its removal nothing is left."""
    folder = SocketFolder()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    (folder.path / "0.sock").touch()
    folder.remove()
    assert list(parent.iterdir()) == []


def test_folder_of_a_killed_process_goes(parent: Path, other: tuple[subprocess.Popen[str], Path]) -> None:
    """The next process removes the folder of one that was killed, but not while that one lives."""
    process, path = other
    (path / "valkey.sock").touch()
    SocketFolder().remove()
    assert list(parent.iterdir()) == [path]
    process.send_signal(signal.SIGKILL)
    process.wait()
    SocketFolder().remove()
    assert list(parent.iterdir()) == []


def test_what_is_not_a_deserted_folder_stays(parent: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Links, files, and folders without a lock (of other programs, or just being made) are left alone."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "lock").touch()
    (parent / f"{PREFIX}link").symlink_to(elsewhere)
    (parent / f"{PREFIX}file").touch()
    (parent / f"{PREFIX}notes").mkdir()
    linked = parent / f"{PREFIX}linked"
    linked.mkdir()
    (linked / "lock").symlink_to(elsewhere / "lock")
    before = sorted(parent.iterdir())
    SocketFolder().remove()
    assert sorted(parent.iterdir()) == before
    assert (elsewhere / "lock").exists()
