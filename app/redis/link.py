"""A connection to Redis on which the commands of one loop turn leave as one write and the answers come in order.

Knows RESP (through hiredis) and nothing of Recado. redis-py's client is not used here: with 32 commands at once it
costs 37 µs a command and this link 2, and the link keeps commands in the order of the calls. redis-py serves where
speed does not matter: it reads the URL, and starts and ends the embedded server.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, cast

import hiredis

from app.errors import StoreAway, StoreError, StoreUnavailable, WrongType
from app.redis.address import Address

Word = bytes | str | int

#: Errors by which Redis says that it cannot serve now: it loads its data, fails over, is full or busy, or in a Cluster
#: the key is elsewhere or is being moved. The caller tries again later.
PASSING_ERRORS = frozenset(
    (
        "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "BUSY", "OOM", "MISCONF",
        "NOREPLICAS", "LATE",
    )
)  # fmt: skip
#: Pushes are handed on for this time in one turn of the loop; what one read brings may cost many times as much.
TURN_SECONDS = 0.005
_PUSHES = frozenset((b"message", b"pmessage", b"subscribe", b"smessage", b"ssubscribe", b"sunsubscribe"))
#: Pushes that also answer a command.
_ANSWERING_PUSHES = frozenset((b"subscribe", b"ssubscribe"))


class Link(asyncio.Protocol):
    """One connection to Redis. Lives until it is closed or breaks; the owner opens the next one.

    `on_push` gets every message that no command asked for (pub/sub), `on_lost` is called once when the connection ends.
    When Redis has forgotten its scripts (NOSCRIPT), the link sends `reload` and then the commands that have not run, in
    the order of the calls. So an answer always means that every earlier call has run.
    """

    def __init__(
        self, on_lost: Callable[["Link"], None] | None = None, on_push: Callable[[list[Any]], None] | None = None
    ) -> None:
        self._on_lost = on_lost
        self._on_push = on_push
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        #: Called with the first word of each answer that is an error.
        self.on_refusal: Callable[[str], None] | None = None
        #: Packed commands that load the scripts into Redis.
        self.reload: Sequence[bytes] = ()
        #: How many answers have arrived; a watch sees progress by it.
        self.answered = 0
        self._outgoing: list[bytes] = []
        self._waiting: deque[tuple[bytes, asyncio.Future[Any]]] = deque()
        #: Commands that have not run: a list from a NOSCRIPT until the last command in flight at that time is answered.
        self._not_run: list[tuple[bytes, asyncio.Future[Any]]] | None = None
        #: Commands that were called meanwhile.
        self._held: list[tuple[bytes, asyncio.Future[Any]]] = []
        #: Whether pushes that are read wait for the next turn.
        self._is_paused = False

    @classmethod
    async def open(
        cls,
        address: Address,
        timeout_seconds: float,
        on_lost: Callable[["Link"], None] | None = None,
        on_push: Callable[[list[Any]], None] | None = None,
    ) -> "Link":
        """Connects and logs in. Raises StoreUnavailable, or StoreError when the login is refused."""
        link = cls(on_lost, on_push)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_seconds):
                if address.path:
                    await loop.create_unix_connection(lambda: link, address.path)
                else:
                    await loop.create_connection(lambda: link, address.host, address.port, ssl=address.tls)
                await link._log_in(address)
        except (OSError, TimeoutError) as error:
            link.abort()
            raise StoreUnavailable(f"Redis at {address} does not answer ({type(error).__name__})") from error
        except BaseException:  # Redis refused, or the caller was cancelled
            link.abort()
            raise
        return link

    @property
    def is_open(self) -> bool:
        """Whether commands can be given."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_waiting(self) -> bool:
        """Whether a command has no answer yet."""
        return bool(self._waiting)

    def command(self, *words: Word) -> "asyncio.Future[Any]":
        """Sends a command in this turn of the loop; the future gets its answer, or a StoreError."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self.is_open:
            _fail(future, StoreAway())
            return future
        packed = hiredis.pack_command(words)  # type: ignore[arg-type]  # typed for one word
        if self._not_run is None:
            self._give(packed, future)
        else:
            self._held.append((packed, future))
        return future

    def abort(self) -> None:
        """Ends the connection at once; commands without an answer fail with StoreUnavailable."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """From asyncio: answers, in the order of the commands."""
        self._reader.feed(data)
        if not self._is_paused:
            self._take()

    def _take(self) -> None:
        end = monotonic() + TURN_SECONDS
        while True:
            try:
                answer = self._reader.gets()
            except hiredis.ProtocolError:
                self.abort()
                return
            if answer is False:
                return
            if self._on_push is not None and isinstance(answer, list) and answer[0] in _PUSHES:
                self._on_push(answer)
                if answer[0] not in _ANSWERING_PUSHES:
                    if monotonic() > end:
                        self._pause()
                        return
                    continue
            self._answer(answer)

    def _pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._is_paused = True
            self._transport.pause_reading()
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._is_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._take()

    def connection_lost(self, error: Exception | None) -> None:
        """From asyncio."""
        self._transport = None
        self._outgoing.clear()
        waiting = [*(self._not_run or ()), *self._waiting, *self._held]
        self._waiting, self._not_run, self._held = deque(), None, []
        for _, future in waiting:
            if not future.done():
                _fail(future, StoreUnavailable("The connection to Redis broke."))
        if self._on_lost is not None:
            self._on_lost(self)

    async def _log_in(self, address: Address) -> None:
        # All at once, so that a Redis far away costs one round trip.
        answers = []
        if address.password is not None:
            login = ([address.username] if address.username else []) + [address.password]
            answers.append(self.command("AUTH", *login))
        if address.database:
            answers.append(self.command("SELECT", address.database))
        named = self.command("CLIENT", "SETNAME", "recado")
        await asyncio.gather(*answers)
        try:
            await named
        except StoreUnavailable:
            raise
        except StoreError as error:
            # The name is for people: a login without this right, or a service without the command, goes on.
            if not str(error).startswith(("NOPERM", "ERR unknown")):
                raise

    def _give(self, packed: bytes, future: "asyncio.Future[Any]") -> None:
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(packed)
        self._waiting.append((packed, future))

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if self._transport is not None and outgoing:
            self._transport.write(outgoing[0] if len(outgoing) == 1 else b"".join(outgoing))

    def _answer(self, answer: Any) -> None:
        if not self._waiting:
            self.abort()
            return
        packed, future = self._waiting.popleft()
        self.answered += 1
        if isinstance(answer, hiredis.ReplyError):
            self._answer_error(packed, future, answer)
        elif not future.done():
            if self._not_run is None:
                future.set_result(answer)
            else:
                # Another node has loaded the scripts first: this command has overtaken those in `_not_run`.
                _fail(future, StoreUnavailable("Redis had forgotten its scripts."))
        if self._not_run is not None and not self._waiting:
            self._run_again()

    def _answer_error(self, packed: bytes, future: "asyncio.Future[Any]", error: Exception) -> None:
        code = str(error).split(" ", 1)[0]
        if code == "NOSCRIPT" and self.reload:
            self._not_run = self._not_run or []
            self._not_run.append((packed, future))
        elif not future.done():
            _fail(future, _to_store_error(code, error))
        if self.on_refusal is not None:
            self.on_refusal(code)

    def _run_again(self) -> None:
        again, self._not_run, self._held = [*(self._not_run or ()), *self._held], None, []
        for packed in self.reload:
            loaded: asyncio.Future[Any] = self._loop.create_future()
            loaded.add_done_callback(self._scripts_loaded)
            self._give(packed, loaded)
        for packed, future in again:
            self._give(packed, future)

    def _scripts_loaded(self, answer: "asyncio.Future[Any]") -> None:
        if not answer.cancelled() and answer.exception() is not None:
            self.abort()


def _retrieved(future: "asyncio.Future[Any]") -> None:
    """Keeps asyncio quiet about an error that no caller waits for any more."""
    if not future.cancelled():
        future.exception()


def _fail(future: "asyncio.Future[Any]", error: StoreError) -> None:
    future.add_done_callback(_retrieved)
    future.set_exception(error)


def _to_store_error(code: str, error: Exception) -> StoreError:
    """Redis's error as a StoreError, a passing one as StoreUnavailable. The text names no argument of a script."""
    if code in PASSING_ERRORS:
        return StoreUnavailable(f"Redis cannot serve now ({code}).")
    return WrongType(str(error)) if code == "WRONGTYPE" else StoreError(str(error))
