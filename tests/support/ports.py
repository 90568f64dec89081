"""Ports for servers that must be told theirs before they listen, or that come back on the same one."""

from __future__ import annotations

import itertools
import os
import random
import socket

HOST = "127.0.0.1"
#: Below the ports that the kernel gives to whoever asks for any (32768 on Linux): a connection that begins while a
#: server is down cannot be given the server's.
_FIRST, _LAST = 20_000, 32_000
#: Each process of a run (pytest-xdist calls them gw0, gw1, ...) has so many of its own.
_PER_PROCESS = 1_500
_PROCESSES = (_LAST - _FIRST) // _PER_PROCESS

_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
# Where it begins is drawn: another run of the tests on the same machine is unlikely to be there.
_numbers = itertools.count(random.SystemRandom().randrange(_PER_PROCESS))


def free_port() -> int:
    """A port on which nobody listens, and that this process gives out only once."""
    for _ in range(_PER_PROCESS):
        port = _FIRST + _process * _PER_PROCESS + next(_numbers) % _PER_PROCESS
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("no port is free")
