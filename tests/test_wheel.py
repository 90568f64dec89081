"""The wheel, built in a checkout as an installation builds it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.support.processes import REPOSITORY

#: Alembic finds these by their path, not by an import.
_MIGRATIONS = {f"app/journal/migrations/{name}" for name in ("env.py", "versions/v0001_first.py")}
_BUNDLES = {f"app/static/vendor/socket.io-{version}.js" for version in "124"}
_BUNDLES |= {f"app/static/vendor/{name}" for name in ("htmx.js", "uplot.js", "uplot.css")}
_CLIENT = {f"app/protocols/sites/client/{name}" for name in ("client.js", "client.d.ts")}
_PAGES = {f"app/console/{name}" for name in ("templates/layout.html", "static/console.js")} | {"app/static/look.css"}


def test_wheel_has_the_bundles(tmp_path: Path) -> None:
    """A wheel built where scripts/fetch-clients never ran has the browser clients, those of the checkout's own,
    the journal's migrations, and the client of sites, which a checkout only links to."""
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("vendor", "__pycache__")
    for name in ("app", "clients/js", "scripts"):
        # Links stay links, as in a clone.
        shutil.copytree(REPOSITORY / name, checkout / name, ignore=ignored, symlinks=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, checkout)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=checkout, check=True, timeout=100)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) >= _BUNDLES | _MIGRATIONS | _PAGES | _CLIENT
        # Scripts of Redis, templates, migrations: one that the wheel lacks would be missed at a customer's.
        assert [name for name in _files_of_the_package() if name not in archive.namelist()] == []
        assert all(archive.read(name) == (REPOSITORY / name).read_bytes() for name in _BUNDLES)


def _files_of_the_package() -> list[str]:
    """The files below app/, without what is made at run time."""
    files = [path for path in (REPOSITORY / "app").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return [str(path.relative_to(REPOSITORY)) for path in files]
