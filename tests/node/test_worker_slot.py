"""The folder where the processes behind a port find each other."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path

import pytest

from app.errors import ConfigError
from app.node.worker_slot import WorkerSlot, socket_directory


def test_directory_is_the_users_alone_and_goes() -> None:
    """Only this user may enter the folder of the sockets, and it does not outlive the server."""
    with socket_directory() as directory:
        assert stat.S_IMODE(Path(directory).stat().st_mode) == 0o700
        assert WorkerSlot(directory, 1, 3).socket_of(2) == f"{directory}/2.sock"
    assert not Path(directory).exists()


@pytest.mark.parametrize(
    ("name", "reason"), [("none", "No such file or directory"), ("a" * 100, "its path is too long")]
)
def test_no_directory_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str) -> None:
    """A folder where no socket can be made is a ConfigError that names TMPDIR."""
    if name != "none":
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    with pytest.raises(ConfigError, match=f"TMPDIR: expected a directory .*{reason}"), socket_directory():
        pass
    assert [path for path in tmp_path.rglob("*") if path.name != name] == []
