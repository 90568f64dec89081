"""CPU and memory of a process are read from /proc.

Each test measures a process of its own: that of the tests has children that work, and freed memory to use again.
"""

import subprocess
import sys

from bench.usage import resident_kb
from tests.support.processes import REPOSITORY

#: Is busy for 0.1 s, and says what that has cost by /proc and by itself.
SPEND = """
import os, time
from bench.usage import cpu_seconds
before, itself_before = cpu_seconds(os.getpid()), time.process_time()
while time.process_time() - itself_before < 0.1:
    pass
print(cpu_seconds(os.getpid()) - before, time.process_time() - itself_before)
"""
#: Touches 32 MB when it is told to, and holds them until its stdin ends.
TOUCH = """
import sys
print("started", flush=True)
sys.stdin.readline()
block = bytearray(b"x") * (32 << 20)
print("touched", flush=True)
sys.stdin.read()
"""


def test_cpu_time_agrees_with_the_process_itself() -> None:
    """The CPU time that /proc shows for a busy stretch is the process's own, within a few milliseconds."""
    said = subprocess.run([sys.executable, "-c", SPEND], cwd=REPOSITORY, capture_output=True, check=True, text=True)
    spent, itself = map(float, said.stdout.split())
    assert abs(spent - itself) < 0.02


def test_resident_memory_grows_with_what_is_touched() -> None:
    """Touching 32 MB shows as at least 30 MB."""
    with subprocess.Popen([sys.executable, "-c", TOUCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        assert child.stdout.readline() == b"started\n"
        before = resident_kb(child.pid)
        child.stdin.write(b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"touched\n"
        assert resident_kb(child.pid) - before > 30 * 1024
        child.stdin.close()
