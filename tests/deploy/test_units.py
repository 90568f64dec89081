"""The units of systemd and Traefik's files: each is what its reader wants, and true of the code."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from app.cli import recado
from app.config.settings import Config
from app.observe.pages import observe_routes
from tests.support.configuration import environment_variables
from tests.support.proxies import FOLDER

_UNITS = sorted((FOLDER / "systemd").iterdir())
_PROGRAM = "/opt/recado/bin/recado"
_PATHS = {str(getattr(route, "path", "")) for route in observe_routes(None, None)}  # type: ignore[arg-type]


def test_units_are_valid(tmp_path: Path) -> None:
    """systemd has nothing to say against the units, but that the program is not installed here."""
    program = tmp_path / "recado"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in _UNITS:
        text = unit.read_text()
        (tmp_path / unit.name).write_text(text.replace(_PROGRAM, str(program)))
    files = [str(tmp_path / unit.name) for unit in _UNITS]
    command = ["systemd-analyze", "verify", "--man=no", *files]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    told = [line for line in checked.stderr.splitlines() if str(tmp_path) in line or line.startswith("recado")]
    assert (checked.returncode, told) == (0, [])


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """A unit: its sections, and in each the values of a key, which may occur several times."""
    sections: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in (FOLDER / "systemd" / name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            sections.setdefault(section, {}).setdefault(key, []).append(value)
    return sections


@pytest.mark.parametrize("path", _UNITS, ids=lambda path: path.name)
def test_commands_exist(path: Path) -> None:
    """Each command of a unit is one of `recado`, with options that it knows; variables are those of the server."""
    service = unit(path.name).get("Service", {})
    for command in [*service.get("ExecStart", []), *service.get("ExecStartPre", [])]:
        program, name, *options = shlex.split(command)
        assert program == _PROGRAM
        told = CliRunner().invoke(recado, [name, "--help"]).output
        assert [option for option in options if option.startswith("--") and option not in told] == []
    names = {text.partition("=")[0] for text in service.get("Environment", [])}
    assert names <= environment_variables()


def test_the_service_has_time_for_its_end() -> None:
    """systemd waits longer than the drain and the shutdown take, and sends SIGTERM to the command alone."""
    service = unit("recado.service")["Service"]
    config = Config()
    needed = config.drain_timeout_seconds + config.shutdown_timeout_seconds
    assert needed + 5 <= int(service["TimeoutStopSec"][0]) <= needed + 30
    assert service["KillMode"] == ["mixed"]


def traefik() -> tuple[dict[str, Any], dict[str, Any]]:
    """Traefik's own file, and the one that says what is served."""
    own = yaml.safe_load((FOLDER / "traefik.yml").read_text())
    return own, yaml.safe_load((FOLDER / "traefik-recado.yml").read_text())["http"]


def test_names_of_traefik_lead_somewhere() -> None:
    """Routers name entry points, services and middlewares that exist; the provider reads the other file."""
    own, served = traefik()
    for router in served["routers"].values():
        assert set(router["entryPoints"]) <= own["entryPoints"].keys()
        assert router["service"] in served["services"]
        assert set(router.get("middlewares", [])) <= served["middlewares"].keys()
        assert re.fullmatch(r"[\w`()/.&|! -]+", router["rule"])
    redirect = own["entryPoints"]["web"]["http"]["redirections"]["entryPoint"]
    assert redirect["to"] in own["entryPoints"]
    resolver = own["entryPoints"]["websecure"]["http"]["tls"]["certResolver"]
    assert own["certificatesResolvers"][resolver]["acme"]["httpChallenge"]["entryPoint"] in own["entryPoints"]
    assert own["providers"]["file"]["filename"] == "/etc/traefik/recado.yml"


def test_traefik_asks_what_exists() -> None:
    """The health check asks a path of the node; the paths that are held back are those of the other files."""
    own, served = traefik()
    balancer = served["services"]["recado"]["loadBalancer"]
    assert balancer["healthCheck"]["path"] in _PATHS
    assert [server["url"] for server in balancer["servers"]] == ["http://10.0.0.1:1337", "http://10.0.0.2:1337"]
    assert "sticky" not in balancer
    for path in ("/metrics", "/console", "/api/v1"):
        assert f"!PathPrefix(`{path}`)" in served["routers"]["recado"]["rule"]
    # A claimed X-Forwarded-For counts only where somebody is trusted.
    assert "forwardedHeaders" not in own["entryPoints"]["websecure"]
    idle = own["entryPoints"]["websecure"]["transport"]["respondingTimeouts"]["idleTimeout"]
    assert int(idle.removesuffix("s")) * 1000 > Config().ping_interval_ms + Config().ping_timeout_ms
