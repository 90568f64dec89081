"""The types that the packages ship hold under a strict compiler."""

from __future__ import annotations

import subprocess

from tests.support.processes import REPOSITORY

_CLIENTS = REPOSITORY / "tests" / "clients" / "node_modules"


def test_the_types_of_the_node_package() -> None:
    """A strict compiler takes every use that the documentation shows, and refuses an option that does not exist."""
    command = ["node", str(_CLIENTS / "typescript" / "bin" / "tsc"), "--noEmit", "--strict", "--target", "es2022"]
    command += ["--module", "nodenext", "--moduleResolution", "nodenext", "--exactOptionalPropertyTypes"]
    command += ["--typeRoots", str(_CLIENTS / "@types"), "--types", "node", "--lib", "es2023"]
    command += [str(REPOSITORY / "tests" / "packages" / "types.mts")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_python_package_ships_its_types() -> None:
    """The marker that lets a type checker read the package lies in it; `scripts/lint` checks the package itself."""
    assert (REPOSITORY / "clients" / "python" / "recado_client" / "py.typed").exists()
    assert "clients/python" in (REPOSITORY / "scripts" / "lint").read_text()
