"""Passwords of operators, as argon2id. A check costs 19 MB and some 20 ms: two threads do them, and few may wait."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from app.errors import RequestRefused

#: Checks under way at once, and those that may wait for them.
THREADS = 2
MAX_WAITING = 32
#: The cost that OWASP names for argon2id (2023): m=19 MiB, t=2, p=1.
_MEMORY_KIB, _PASSES, _LANES = 19_456, 2, 1
#: Nobody's: it is checked for an unknown name, so that the time of an answer tells nothing.
_OF_NOBODY = f"$argon2id$v=19$m={_MEMORY_KIB},t={_PASSES},p={_LANES}${'A' * 22}${'A' * 43}"

_T = TypeVar("_T")


class PasswordChecks:
    """Makes and checks hashes. Lives as long as the node; `close` ends its threads."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=_LANES)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="password")
        self._waiting = 0

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """The hash to keep. Raises RequestRefused when too many wait."""
        return await self._run(lambda: self._hasher.hash(password))

    async def is_right(self, kept: str | None, password: str) -> bool:
        """Whether a password is the one of a hash; None: of nobody. Raises RequestRefused when too many wait."""

        def check() -> bool:
            with contextlib.suppress(Argon2Error, InvalidHashError):
                return self._hasher.verify(kept or _OF_NOBODY, password) and kept is not None
            return False

        return await self._run(check)

    async def _run(self, work: Callable[[], _T]) -> _T:
        if self._waiting >= THREADS + MAX_WAITING:
            raise RequestRefused("Too many passwords are being checked, try again.", "busy", 503)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
