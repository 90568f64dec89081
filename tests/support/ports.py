"""Ports for servers that must be told theirs before they listen, or that come back on the same one."""

from __future__ import annotations

import itertools
import os
import random
import socket

HOST = "127.0.0.1"
#: These ports are below the range from which the kernel picks ephemeral ports (32768 up on Linux). So a connection that
#: begins while a server is down never gets the server's port.
_FIRST, _LAST = 20_000, 32_000
#: The number of ports for each process of a run (pytest-xdist calls them gw0, gw1, ...).
_PER_PROCESS = 1_500
_PROCESSES = (_LAST - _FIRST) // _PER_PROCESS

_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
# The first port is random, so that another run on the same machine is unlikely to use the same ports.
_numbers = itertools.count(random.SystemRandom().randrange(_PER_PROCESS))


def free_port() -> int:
    """A port on which no server listens, and that this process gives out only once."""
    for _ in range(_PER_PROCESS):
        port = _FIRST + _process * _PER_PROCESS + next(_numbers) % _PER_PROCESS
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("no port is free")
