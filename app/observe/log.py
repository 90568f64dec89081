"""The form of log lines, and the secrets that they may not hold. structlog and the libraries' loggers share one output.

Each event is one JSON line on stderr, or a readable line when stderr is a terminal. Knows no event. Modules log with
`structlog.get_logger(__name__)`. Below the level a call costs a look-up and formats nothing.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from app.config.settings import CANARY_SITE, LogFormat, LogLevel

_MASK = "***"
#: Keys, without case, `_` and `-`, whose values are never shown.
_SECRET_KEYS = frozenset(
    {"token", "apikey", "xapikey", "password", "secret", "authorization", "ticket", "resumeticket"}
)
#: Secrets inside a text: a URL's password, and a query's or a header's value.
_SECRETS_IN_TEXT = (
    (re.compile(r"(://[^\s:/@]*:)[^\s/?#]+@"), rf"\1{_MASK}@"),
    (re.compile(r"\b((?:token|ticket|api_?key|password|secret)=)[^&\s\"']+", re.IGNORECASE), rf"\1{_MASK}"),
    (re.compile(r"\b((?:authorization|x-api-key)['\"]?\s*[:,]\s*).+", re.IGNORECASE), rf"\1{_MASK}"),
)
#: uvicorn's lines tell the operator of start and stop. Other libraries log from warnings on.
_TALKATIVE_LOGGER = "uvicorn"


#: The levels that `tell_serious` tells of.
_SERIOUS = ("warning", "error", "critical")
#: The one listener to warnings and errors of this process.
_listeners: list[Callable[[EventDict], None]] = []

#: Names of levels that are no methods' names.
_LEVELS = {"warn": "warning", "exception": "error"}
#: Values that every line of this process's own loggers has.
_process_values: dict[str, Any] = {}
#: The last second that a line was written in, and its text.
_second = (-1, "")


class _LevelledLogger(structlog.BoundLoggerBase):
    """A module's logger, with the methods that structlog has made for one level: a call below the level costs nothing.
    All share these methods, so that the level can change. Lives as long as the process."""

    level: LogLevel = "info"


class _NamedLogger(structlog.WriteLogger):
    """The output of a module's logger: one write a line. Lives as long as the process."""

    def __init__(self, stream: TextIO, name: str) -> None:
        super().__init__(stream)
        self.name = name


def configure_logging(level: LogLevel, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Sets up all logging of this process, to stderr by default. Called once, before the server starts."""
    output = stream or sys.stderr
    is_console = log_format == "console" or (log_format == "auto" and output.isatty())
    finish = _finish(is_console, colors=output.isatty())
    own: list[Processor] = [_to_line] if not is_console else [drop_hidden, _begin, *finish]
    shared: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
    ]
    structlog.configure(
        processors=own,
        wrapper_class=_LevelledLogger,
        logger_factory=lambda *names: _NamedLogger(output, names[0] if names else "recado"),
        cache_logger_on_first_use=True,
    )
    _configure_libraries(output, shared, finish)
    set_log_level(level)


def set_log_level(level: LogLevel) -> None:
    """Has every logger of this process write from this level on, those that modules have kept, too."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    for name, method in vars(structlog.make_filtering_bound_logger(threshold)).items():
        if callable(method):
            setattr(_LevelledLogger, name, method)
    logging.getLogger().setLevel(max(threshold, logging.WARNING))
    logging.getLogger(_TALKATIVE_LOGGER).setLevel(threshold)
    _LevelledLogger.level = level


def log_level() -> LogLevel:
    """The level from which on this process logs."""
    return _LevelledLogger.level


def drop_hidden(_: object, __: str, event: EventDict) -> EventDict:
    """A structlog processor: no line of the hidden site. The canary tells itself what became of its messages."""
    if event.get("site") == CANARY_SITE:
        raise structlog.DropEvent
    return event


def name_process(**values: Any) -> None:
    """Has every line of this process's own loggers hold these values."""
    _process_values.update(values)


def _begin(logger: Any, method: str, event: EventDict) -> EventDict:
    """A structlog processor: adds the logger and the level."""
    if _process_values:
        event = {**_process_values, **event}
    event["logger"] = logger.name
    event["level"] = _LEVELS.get(method, method)
    return event


def mask_secrets(_: object, __: str, event: EventDict) -> EventDict:
    """A structlog processor: the event without the values of secret keys and without secrets inside texts."""
    # Every /send logs a line: this look at it is cheaper than a new dict.
    for key, value in event.items():
        if type(value) is str:
            if ":" in value or "=" in value or _is_secret(key):
                break
        elif type(value) is not int or _is_secret(key):
            break
    else:
        return event
    return {key: _masked(key, value) for key, value in event.items()}


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return key.lower().replace("_", "").replace("-", "") in _SECRET_KEYS


def _masked(key: object, value: Any) -> Any:
    if isinstance(key, str) and _is_secret(key):
        return _MASK
    if isinstance(value, str):
        # Every pattern has one of these in it; most texts have neither.
        if ":" not in value and "=" not in value:
            return value
        for pattern, replacement in _SECRETS_IN_TEXT:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, dict):
        return {inner: _masked(inner, held) for inner, held in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(None, held) for held in value]
    return value


def _finish(is_console: bool, *, colors: bool) -> list[Processor]:
    # An exception becomes text before the masking, and never with the values of local variables.
    renderer: Processor = _to_json
    if is_console:
        # Values are quoted: a device's name cannot send control characters to the operator's terminal.
        renderer = structlog.dev.ConsoleRenderer(colors=colors, repr_native_str=True)
    # The time is added after the masking, which would look at its colons.
    return [structlog.processors.format_exc_info, mask_secrets, _tell, _add_time, renderer]


def _add_time(_: object, __: str, event: EventDict) -> EventDict:
    """A structlog processor: adds the time in UTC. The text of a second is made once."""
    global _second
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    known, text = _second
    if known != seconds:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        _second = (seconds, text)
    event["timestamp"] = f"{text}.{microseconds:06d}Z"
    return event


def tell_serious(listener: Callable[[EventDict], None]) -> Callable[[], None]:
    """Calls the listener with each warning and error of this process, with secrets masked. Returns the call that ends
    it. May be called from any thread's logging; the listener neither blocks nor raises."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener) if listener in _listeners else None


def _tell(_: object, __: str, event: EventDict) -> EventDict:
    if _listeners and event.get("level") in _SERIOUS:
        for listener in _listeners:
            listener(event)
    return event


def _to_json(_: object, __: str, event: EventDict) -> str:
    """A structlog processor: one line of ASCII. msgspec is faster than the standard library, and every /send logs a
    line."""
    try:
        return _encoder.encode(event).decode("ascii")
    except UnicodeError:
        # Some readers end a line at other characters too, and half a surrogate pair is no Unicode: both are escaped.
        return json.dumps(event, default=repr)


_encoder = msgspec.json.Encoder(enc_hook=repr)


def _to_line(logger: Any, method: str, event: EventDict) -> str:
    """A structlog processor: all of the above, for our own lines, of which each connect and /send has one."""
    event = _begin(logger, method, drop_hidden(logger, method, event))
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(logger, method, event)
    event = mask_secrets(logger, method, event)
    if _listeners:
        _tell(logger, method, event)
    return _to_json(logger, method, _add_time(logger, method, event))


def _configure_libraries(output: TextIO, shared: list[Processor], finish: list[Processor]) -> None:
    handler = logging.StreamHandler(output)
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove_meta, *finish])
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    talkative = logging.getLogger(_TALKATIVE_LOGGER)
    talkative.handlers.clear()
    talkative.propagate = True
    # The access log's lines would hold the query, and with it the token.
    logging.getLogger("uvicorn.access").disabled = True
