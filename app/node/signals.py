"""The signals that ask a process to end, and SIGHUP, which asks for nothing here."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

import structlog

_END_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger(__name__)


def ignore_hangup() -> None:
    """Keeps SIGHUP from ending the process: a terminal sends it that is closed, and habit sends it for a reload."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _say_ignored() -> None:
    _log.warning("SIGHUP ignored", reason="the configuration is read at the start: restart the server to read it again")


@contextlib.contextmanager
def end_signals(obey: Callable[[int], None]) -> Iterator[None]:
    """Calls `obey` on the loop with the number of each signal that arrives within the `with`. SIGHUP is logged only."""
    loop = asyncio.get_running_loop()
    for number in _END_SIGNALS:
        loop.add_signal_handler(number, obey, number)
    before = signal.getsignal(signal.SIGHUP)
    loop.add_signal_handler(signal.SIGHUP, _say_ignored)
    try:
        yield
    finally:
        for number in _END_SIGNALS:
            loop.remove_signal_handler(number)
        loop.remove_signal_handler(signal.SIGHUP)
        # Ignored again, see `ignore_hangup`: the end of the process takes a while, too.
        signal.signal(signal.SIGHUP, before)
