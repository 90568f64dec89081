"""Long bodies are read in threads, of which each site has a share.

A thread that reads keeps the others from the interpreter. So one body of a site is read at a time, and behind it the
site rests for as long: half of the time is the others', whatever a site sends.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from app.protocols.fair_pool import FairPool, PoolBounds, Share
from app.transport.refusals import TOO_MANY_BODIES

#: A longer text is read in a thread, so that reading it holds up no other request.
LARGE_BYTES = 65_536

#: The threads of a node that read long texts and decrypt bind keys. Of one site: those for keys at a time, and the keys
#: that wait.
READING_THREADS = 4
READING_THREADS_OF_SITE = 2
MOST_WAITING = 1_000
#: The long texts of a site that wait. Each holds its bytes.
MOST_BODIES_WAITING = 64
_BOUNDS = PoolBounds(
    threads=READING_THREADS,
    threads_of_owner=READING_THREADS_OF_SITE,
    waiting_of_owner=MOST_WAITING,
    reason=TOO_MANY_BODIES,
    text="Too many long bodies of this site wait on this server, try again.",
)
_BODIES = Share(threads=1, waiting=MOST_BODIES_WAITING, has_rest=True)

T = TypeVar("T")


def new_reading_pool() -> FairPool:
    """The threads of a node that read what is long."""
    return FairPool("reading", _BOUNDS)


async def read_aside(
    pool: FairPool, owner: str, read: Callable[[bytes], T], text: bytes, large_bytes: int = LARGE_BYTES
) -> T:
    """The result of `read` for the text, in a thread if the text is long; `owner` is the site whose share of the pool
    that takes. Raises the errors of `read`, and LimitReached."""
    return read(text) if len(text) <= large_bytes else await pool.run(owner, partial(read, text), _BODIES)
