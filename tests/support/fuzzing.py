"""A whole node in a thread of the test's process, without sockets, for inputs that nobody should send.

An input is a request, a message on a WebSocket or a message in Redis. For none the node logs a traceback, answers
a status of 500 or more, has a long turn of its loop, or leaves an object behind, with the collector off.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from ipaddress import ip_address
from typing import Any, TypeVar, cast
from urllib.parse import unquote

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning
from structlog.testing import capture_logs

from app.config.settings import Config
from app.node.build import Services
from app.node.worker_slot import WorkerSlot
from app.protocols.listed import PROTOCOLS
from app.protocols.protocol import ProtocolSpec
from app.transport.http_cycle import reason_phrase
from app.transport.listener import EXTENSION
from app.transport.outbox import ReadyPacket, TurnFlusher
from app.transport.streaming import EXTENSION as STREAM_EXTENSION
from app.transport.streaming import StreamSocket
from tests.support.waiting import DEFAULT_TIMEOUT_SECONDS, eventually, until

#: CPU time of the node's thread in one turn of its loop, with the test's part as its client.
MAX_TURN_SECONDS = 0.05
#: A long turn has to be long in each of these tries: the machine may be busy.
TRIES = 4
#: Objects of the application that the node may keep beside those that it had: entries of its bounded caches.
MAX_LEFT = 60
DEADLINE_SECONDS = 30.0

Header = tuple[bytes, bytes]
_Result = TypeVar("_Result")
_Input = TypeVar("_Input")


class TimedLoop(asyncio.SelectorEventLoop):
    """A loop that knows the CPU time of its longest turn."""

    longest_seconds = 0.0

    def _run_once(self) -> None:
        began = time.thread_time()
        super()._run_once()  # type: ignore[misc]
        self.longest_seconds = max(self.longest_seconds, time.thread_time() - began)


class FakeWebSocket:
    """The WebSocket of a request, as the transport offers it; the test is its client."""

    is_upgrading = False

    def __init__(self) -> None:
        self.listener: Any = None
        self.status = 0
        self.written: list[bytes] = []
        self.close_code: int | None = None
        self.max_message_bytes = 0
        self.buffered_bytes = 0
        self._is_paused = False
        self._waiting: list[str | bytes] = []
        self._changed = asyncio.Event()

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds, which a frame or the end of the connection can change. A poll would cost more
        than most inputs do."""
        try:
            async with asyncio.timeout(DEFAULT_TIMEOUT_SECONDS):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"waited {DEFAULT_TIMEOUT_SECONDS} s for {what}") from None

    @property
    def closed(self) -> bool:
        """Whether either side has begun to close."""
        return self.close_code is not None or self.listener is None

    def accept(self, listener: Any, *, max_message_bytes: int, **_options: Any) -> None:
        """Answer 101."""
        self.status = 101
        self.listener = listener
        self.max_message_bytes = max_message_bytes

    def reject(self, status: int = 403, *_answer: Any) -> None:
        """Answer another status."""
        self.status = status

    def limit_message(self, max_bytes: int) -> None:
        """Bound the client's messages."""
        self.max_message_bytes = max_bytes

    def limit_outbox(self, max_bytes: int) -> None:
        """Nothing waits here."""

    def wire_bytes(self) -> tuple[int, int] | None:
        """There is no socket whose bytes could be told."""
        return None

    def write_frame(self, frame: bytes) -> None:
        """Take a ready frame."""
        self.written.append(frame)
        self._changed.set()

    def write_packet(self, packet: ReadyPacket) -> None:
        """Take the frame of a packet."""
        self.write_frame(packet.frame)

    def write_binary(self, payload: bytes) -> None:
        """Take a binary message."""
        self.written.append(payload)
        self._changed.set()

    write_text = write_binary

    def write_ping(self) -> None:
        """Answer a ping."""
        if self.listener is not None:
            asyncio.get_running_loop().call_soon(self.listener.pong_received)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begin to close."""
        if self.close_code is None:
            self.close_code = code
            self._changed.set()

    def leave(self, code: int = 1000, reason: str = "") -> None:
        """Begin to close."""
        self.close(code)

    def abort(self) -> None:
        """End at once."""
        self.close(1006)

    def pause_reading(self) -> None:
        """Keep the client's messages outside."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """Read again."""
        self._is_paused = False
        asyncio.get_running_loop().call_soon(self._read_on)

    def say(self, message: str | bytes) -> None:
        """Let the server receive a message, as soon as it reads."""
        self._waiting.append(message)
        self._read_on()

    def drop(self) -> None:
        """End the connection, and tell its listener."""
        listener, self.listener = self.listener, None
        self._waiting.clear()
        self.close()
        if listener is not None:
            listener.connection_lost(1006, "")

    def _read_on(self) -> None:
        while self._waiting and not self._is_paused and not self.closed:
            message = self._waiting.pop(0)
            data = message if isinstance(message, bytes) else message.encode()
            if len(data) > self.max_message_bytes:
                self.close(1009)
            elif isinstance(message, str):
                self.listener.text_received(data)
            else:
                self.listener.binary_received(data)


class _StreamTransport:
    """The socket of a stream, whose client reads all and says nothing."""

    def __init__(self) -> None:
        self._protocol: Any = None
        self._is_closing = False

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        """Read it."""

    def writelines(self, data: Sequence[bytes]) -> None:
        """Read all."""

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, *_limits: Any, **_options: Any) -> None:
        """Nothing waits here."""

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        return default

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            protocol, self._protocol = self._protocol, None
            asyncio.get_running_loop().call_soon(protocol.connection_lost, None)

    abort = close


class _StreamOffer:
    """The way to a stream's socket."""

    def __init__(self) -> None:
        self.transport = _StreamTransport()
        self.is_taken = False

    def take_over(self) -> StreamSocket:
        self.is_taken = True
        transport = cast(asyncio.Transport, self.transport)
        return StreamSocket(transport, TurnFlusher(), set(), is_chunked=True, is_slow=False)

    def take_body(self) -> None:
        """There is no way past the messages of ASGI."""

    def answer(self, _headers: bytes, _body: bytes) -> bool:
        """The same."""
        return False

    def give_reason(self, reason: str) -> None:
        """Take the text of the status line, which has to be one line."""
        assert not {0x0A, 0x0D} & set(reason_phrase(reason))


class _Complaints(logging.Handler):
    """Keeps the errors and tracebacks of all loggers of the standard library."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__()
        self._texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            self._texts.append(self.format(record))


class FuzzedNode:
    """The node, its loop and its complaints; lives as long as a test."""

    def __init__(self, loop: TimedLoop, services: Services, logs: list[MutableMapping[str, Any]]) -> None:
        self.services = services
        self.complaints: list[str] = []
        self.statuses: Counter[int] = Counter()
        #: The inputs that were tried.
        self.inputs = 0
        self.slowest_seconds = 0.0
        self._loop = loop
        self._logs = logs
        self._tasks: set[asyncio.Task[Any]] = set()
        self._objects: Counter[str] = Counter()
        self._sockets: list[FakeWebSocket] = []

    def attempt(self, scenario: Callable[[], Coroutine[Any, Any, _Result]], inputs: int = 1) -> _Result:
        """Run a scenario and check the node afterwards."""
        self.inputs += inputs
        fastest = float("inf")
        for _ in range(TRIES):
            self._loop.longest_seconds = 0.0
            result = _run(self._loop, self._within_time(scenario()))
            self.check_logs()
            fastest = min(fastest, self._loop.longest_seconds)
            if fastest < MAX_TURN_SECONDS:
                break
        self.slowest_seconds = max(self.slowest_seconds, fastest)
        assert fastest < MAX_TURN_SECONDS, f"a turn of {fastest:.3f} s"
        return result

    async def http(
        self, method: str, target: str, body: bytes = b"", headers: Sequence[Header] = (), *, may_be_busy: bool = False
    ) -> tuple[int, bytes]:
        """Send a request; return status and body. The client of a stream leaves at once. With `may_be_busy` the server
        may answer 503: what it asks of SQL has a deadline, which a busy machine does not keep."""
        path, _, query = target.partition("?")
        sent = [{"type": "http.request", "body": body, "more_body": False}]
        answer: list[Any] = []

        async def receive() -> MutableMapping[str, Any]:
            return sent.pop() if sent else {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            answer.append(message)

        offer = _StreamOffer()
        scope = self._scope("http", path, query, headers) | {"method": method}
        scope["extensions"] = {STREAM_EXTENSION: offer}
        await self.services.dispatcher(scope, receive, send)
        if offer.is_taken:
            offer.transport.close()
            self.statuses[200] += 1
            return 200, b""
        status = answer[0]["status"] if answer else 0
        self.statuses[status] += 1
        assert status < 500 or (may_be_busy and status == 503), (method, target, body[:200], answer)
        return status, b"".join(message.get("body", b"") for message in answer[1:])

    async def websocket(self, target: str, headers: Sequence[Header] = ()) -> FakeWebSocket:
        """Ask for a WebSocket; it is open unless its status says otherwise."""
        path, _, query = target.partition("?")
        socket = FakeWebSocket()
        scope = self._scope("websocket", path, query, headers) | {"subprotocols": []}
        scope["extensions"] = {EXTENSION: {"connection": socket}}

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            socket.status = socket.status or 403

        await self.services.dispatcher(scope, receive, send)
        assert socket.status < 500, (target, socket.status)
        self.statuses[socket.status] += 1
        self._sockets.append(socket)
        return socket

    async def leave(self) -> None:
        """End all sockets and sessions."""
        for socket in self._sockets:
            socket.drop()
        self._sockets.clear()
        for session in list(self.services.socket_server.engine.sessions.values()):
            session.close("the input is over")
            session.give_up()
        await asyncio.sleep(0)

    async def until_idle(self) -> None:
        """Wait until the node does nothing for its former clients."""
        await self.leave()
        tasks = {task for task in asyncio.all_tasks() - self._tasks if not _is_of_lease(task)}
        tasks.discard(cast("asyncio.Task[Any]", asyncio.current_task()))
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=DEADLINE_SECONDS)
            assert not left, left

    async def until_ready(self) -> None:
        """Wait until the node hears the bus, and remember the tasks of a node without clients."""
        await until(lambda: self.services.health.is_ready, "the node to be ready")
        self._tasks = asyncio.all_tasks()

    async def _within_time(self, scenario: Awaitable[_Result]) -> _Result:
        async with asyncio.timeout(DEADLINE_SECONDS):
            try:
                return await scenario
            finally:
                await self.leave()

    def note_objects(self) -> None:
        """Remember the objects of a node without clients."""
        self._objects = _own_objects()

    def check_objects(self) -> None:
        """Fail for objects of clients that have left. Then a collection frees the garbage of the test itself."""
        _run(self._loop, self.until_idle())
        # A refusal that is late holds its session for a second.
        eventually(lambda: self._left().total() <= MAX_LEFT, "the objects of clients that have left to go")
        gc.collect()
        self.check_logs()

    def _left(self) -> Counter[str]:
        return _own_objects() - self._objects

    def check_logs(self) -> None:
        """Fail for a traceback in the log. A slow machine gives errors too: no answer of Redis in time."""
        self.complaints += [str(line) for line in self._logs if line.get("exc_info")]
        self._logs.clear()
        assert not self.complaints, self.complaints

    def _scope(self, kind: str, path: str, query: str, headers: Sequence[Header]) -> dict[str, Any]:
        return {
            "type": kind,
            "http_version": "1.1",
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode("utf-8", "surrogatepass"),
            "query_string": query.encode("utf-8", "surrogatepass"),
            "root_path": "",
            "headers": [(b"host", b"x"), *headers],
            # Another one for each scenario: an address that is refused again and again is answered late.
            "client": (str(ip_address(self.inputs % 2**24 + 10 * 2**24)), 1),
            "server": ("127.0.0.1", 80),
        }


@contextmanager
def fuzzed_node(config: Config, specs: Sequence[ProtocolSpec] = PROTOCOLS) -> Iterator[FuzzedNode]:
    """A node for the length of the block, whose objects have to go without a garbage collection."""
    with _running_loop() as loop, capture_logs() as logs:
        stack = AsyncExitStack()
        services = _run(loop, Services.start(config, stack, WorkerSlot("/nowhere"), specs))
        node = FuzzedNode(loop, services, logs)
        handler = _Complaints(node.complaints)
        # Garbage of earlier tests may complain at its end.
        gc.collect()
        logging.getLogger().addHandler(handler)
        try:
            _run(loop, node.until_ready())
            gc.collect()
            gc.disable()
            node.note_objects()
            yield node
            node.check_objects()
        finally:
            gc.enable()
            logging.getLogger().removeHandler(handler)
            _run(loop, stack.aclose())


@contextmanager
def _running_loop() -> Iterator[TimedLoop]:
    loop = TimedLoop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _run(loop: TimedLoop, scenario: Coroutine[Any, Any, _Result]) -> _Result:
    return asyncio.run_coroutine_threadsafe(scenario, loop).result(10 * DEADLINE_SECONDS)


def fuzz(inputs: st.SearchStrategy[_Input], check: Callable[[_Input], None], examples: int) -> None:
    """Try a check with many examples."""
    checks = list(HealthCheck)
    # Without the search for a smaller example, which takes minutes.
    options = settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=checks, phases=[Phase.generate]
    )

    @options
    @given(inputs)
    def each(value: _Input) -> None:
        check(value)

    with warnings.catch_warnings():
        # A failing example is shown with all its strategies.
        warnings.simplefilter("ignore", HypothesisWarning)
        each()


def _is_of_lease(task: asyncio.Task[Any]) -> bool:
    """Whether a task lasts as long as the node has the lease of Redis PUBLISH, which it may get late."""
    return task.get_name().startswith("redis publish")


def _own_objects() -> Counter[str]:
    names = (f"{type(one).__module__}.{type(one).__name__}" for one in gc.get_objects())
    return Counter(name for name in names if name.startswith("app."))
