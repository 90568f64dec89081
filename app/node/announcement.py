"""The lines of a server that begins to serve: its URL in the log, and the operator of a demo on stderr."""

import sys
from typing import Any

import structlog

from app.config.settings import Config, ConsoleSettings, url_on_loopback
from app.config.sources import Sources

_log = structlog.get_logger(__name__)


def tell_listening(config: Config, sources: Sources, url: str, **facts: Any) -> None:
    """Logs that the server serves. Shows the operator that the command has made for the run, with the password."""
    _log.info("listening", url=url, **facts)
    made: ConsoleSettings | None = sources.given.get("console")
    if made is not None:
        place = url if made.port is None else url_on_loopback(config, made.port)
        sys.stderr.write(f"Console: {place}/console  name: {made.operator}  password: {made.operator_password}\n")
        sys.stderr.flush()
