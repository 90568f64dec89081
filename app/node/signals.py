"""The signals that ask a process to end."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

_END_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def end_signals(obey: Callable[[int], None]) -> Iterator[None]:
    """Calls `obey` on the loop with the number of each signal that arrives within the `with`."""
    loop = asyncio.get_running_loop()
    for number in _END_SIGNALS:
        loop.add_signal_handler(number, obey, number)
    try:
        yield
    finally:
        for number in _END_SIGNALS:
            loop.remove_signal_handler(number)
