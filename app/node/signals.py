"""The signals that ask a process to end, and SIGHUP, which asks it to read its configuration again."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

_END_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def ignore_hangup() -> None:
    """Keeps SIGHUP from ending the process before it serves, and at its end: a terminal sends it that is closed."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextlib.contextmanager
def obeyed_signals(end: Callable[[int], None], reload: Callable[[], None]) -> Iterator[None]:
    """Calls `end` on the loop with the number of each signal that arrives within the `with`, and `reload` for each
    SIGHUP."""
    loop = asyncio.get_running_loop()
    for number in _END_SIGNALS:
        loop.add_signal_handler(number, end, number)
    before = signal.getsignal(signal.SIGHUP)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        for number in _END_SIGNALS:
            loop.remove_signal_handler(number)
        loop.remove_signal_handler(signal.SIGHUP)
        # Ignored again, see `ignore_hangup`: the end of the process takes a while, too.
        signal.signal(signal.SIGHUP, before)
