"""CPU and memory of a process are read from /proc."""

import os
import time

from bench.usage import cpu_seconds, resident_kb


def test_cpu_time_agrees_with_the_process_itself() -> None:
    """The CPU time that /proc shows for a busy stretch is the process's own, within a few milliseconds."""
    before, itself_before = cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() - itself_before < 0.1:
        pass
    spent, itself = cpu_seconds(os.getpid()) - before, time.process_time() - itself_before
    assert abs(spent - itself) < 0.02


def test_resident_memory_grows_with_what_is_touched() -> None:
    """Touching 32 MB shows as at least 30 MB."""
    before = resident_kb(os.getpid())
    block = bytearray(b"x") * (32 << 20)
    assert resident_kb(os.getpid()) - before > 30 * 1024
    assert block
