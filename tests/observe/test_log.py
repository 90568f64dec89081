"""The form of a log line, the lines that there are, and that none holds a secret."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from app.config.settings import CANARY_SITE, LogFormat, LogLevel
from app.observe import log
from app.observe.log import configure_logging, log_level, mask_secrets, set_log_level


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Undoes what configure_logging does to the process."""
    names = (None, "uvicorn", "uvicorn.access")
    before = {name: logging.getLogger(name) for name in names}
    state = {name: (logger.handlers[:], logger.level, logger.disabled) for name, logger in before.items()}
    yield
    structlog.reset_defaults()
    for name, (handlers, level, disabled) in state.items():
        logger = logging.getLogger(name)
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.disabled = disabled


def configured(level: LogLevel = "info", log_format: LogFormat = "json") -> io.StringIO:
    """A fresh output to which everything logs."""
    stream = io.StringIO()
    configure_logging(level, log_format, stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """The JSON lines written."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_json_line_an_event() -> None:
    """A line holds event, level, logger, time and the values of the module."""
    stream = configured()
    structlog.get_logger("app.node.build").info("listening", url="http://127.0.0.1:1", device="a\nb")
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "listening",
        "level": "info",
        "logger": "app.node.build",
        "url": "http://127.0.0.1:1",
        "device": "a\nb",
    }


def test_the_hidden_site_has_no_lines() -> None:
    """No line of the canary's site is written, whatever its level."""
    stream = configured()
    structlog.get_logger("app.core.delivery").error("send failed", site=CANARY_SITE)
    structlog.get_logger("app.core.delivery").info("message stored", site="shop")
    assert [line["site"] for line in lines(stream)] == ["shop"]


def test_process_has_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values that name a process stand in each line of its own loggers, which may say otherwise."""
    monkeypatch.setattr(log, "_process_values", {})
    stream = configured()
    log.name_process(worker=3)
    structlog.get_logger("app").info("a")
    structlog.get_logger("app").info("b", worker=4)
    assert [line["worker"] for line in lines(stream)] == [3, 4]


def test_level_decides() -> None:
    """A call below the level writes nothing."""
    stream = configured("warning")
    logger = structlog.get_logger("app")
    logger.debug("a")
    logger.info("b")
    logger.warning("c")
    assert [line["event"] for line in lines(stream)] == ["c"]


@pytest.mark.parametrize(("log_format", "is_json"), [("auto", False), ("console", False), ("json", True)])
def test_terminal_gets_readable_lines(log_format: LogFormat, is_json: bool) -> None:
    """`auto` is readable on a terminal; `json` stays JSON there."""
    stream = Terminal()
    configure_logging("info", log_format, stream)
    structlog.get_logger("app").info("hello", device="\x1b[31m")
    assert stream.getvalue().startswith("{") is is_json
    assert "\x1b[31m" not in stream.getvalue().partition("device")[2]


def test_no_terminal_gets_json() -> None:
    """`auto` is JSON when the output is no terminal."""
    stream = configured(log_format="auto")
    structlog.get_logger("app").info("hello")
    assert lines(stream)[0]["event"] == "hello"


def test_libraries_share_the_output() -> None:
    """uvicorn's lines have our form; other libraries log from warnings on; requests are not logged."""
    stream = configured("debug")
    logging.getLogger("uvicorn.error").info("Started %s", "well")
    logging.getLogger("uvicorn.access").info("GET /socket.io/?token=hidden")
    logging.getLogger("engineio").info("packet")
    logging.getLogger("asyncio").warning("slow")
    found = [(line["event"], line["logger"], line["level"]) for line in lines(stream)]
    assert found == [("Started well", "uvicorn.error", "info"), ("slow", "asyncio", "warning")]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_exceptions_come_with_their_traceback(log_format: LogFormat) -> None:
    """A traceback is in the line, without the values of variables and of headers."""
    stream = configured(log_format=log_format)
    password = "hid" + "den"
    try:
        raise ValueError(f"sent authorization: Bearer {password}")
    except ValueError:
        structlog.get_logger("app").exception("failed")
        logging.getLogger("asyncio").exception("failed")
    assert stream.getvalue().count("Traceback") == 2
    assert "hidden" not in stream.getvalue()


@pytest.mark.parametrize("key", ["token", "apiKey", "api_key", "X-API-Key", "password", "secret", "Authorization"])
def test_secret_keys_are_masked(key: str) -> None:
    """The value of a secret key is never shown, at any depth."""
    event = mask_secrets(None, "", {key: "hidden", "inner": {key: ["hidden"]}, "list": [{key: 5}]})
    assert event == {key: "***", "inner": {key: "***"}, "list": [{key: "***"}]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:hidden@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://user:hid@den@host", "rediss://user:***@host"),
        ("GET /socket.io/?token=hidden&deviceId=5", "GET /socket.io/?token=***&deviceId=5"),
        ("/send?site=a&apiKey=hidden", "/send?site=a&apiKey=***"),
        ("{'Authorization': 'Bearer hidden'}", "{'Authorization': ***"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("http://127.0.0.1:1337/demo", "http://127.0.0.1:1337/demo"),
    ],
)
def test_secrets_in_texts_are_masked(text: str, shown: str) -> None:
    """Passwords in URLs, keys in queries and header values are masked; the rest of the text stays."""
    assert mask_secrets(None, "", {"event": text, "texts": [text]}) == {"event": shown, "texts": [shown]}


@given(st.dictionaries(st.text(st.characters(), max_size=5), st.text(st.characters(), max_size=20), max_size=4))
def test_any_text_can_be_logged(values: dict[str, str]) -> None:
    """A device or room name of any characters gives one line."""
    stream = configured()
    structlog.get_logger("app").info("seen", values=values)
    assert len(lines(stream)) == 1


def test_the_level_may_change() -> None:
    """Loggers that modules have kept write from another level on; those of libraries, too."""
    stream = configured("warning")
    logger = structlog.get_logger("app.somewhere")
    logger.info("before")
    logger.warning("kept")
    set_log_level("debug")
    assert log_level() == "debug"
    logger.debug("debugged", number=1)
    logging.getLogger("uvicorn.error").info("talked")
    set_log_level("error")
    logger.warning("too little")
    logging.getLogger("asyncio").warning("too little as well")
    logger.error("enough")
    assert [line["event"] for line in lines(stream)] == ["kept", "debugged", "talked", "enough"]
