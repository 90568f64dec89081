"""Calls between nodes over the bus: a question to one node, which answers in time or is told of as silent.

Operators' pages and commands use them. A call may be lost, as all that is published; it is never repeated.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from app.errors import RecadoError, StoreError
from app.redis.client import Commands
from app.store.keys import NODES, bus_channel
from app.surrogates import encode_json
from app.watched_tasks import start_logged

#: The begins of the two kinds of bus messages.
CALL = b"call\n"
ANSWER = b"answer\n"
ANSWER_SECONDS = 1.0
#: Calls of other nodes that a node answers at a time.
MOST_CALLS = 32
#: Calls of this node that wait for their answers.
MOST_WAITING_CALLS = 2_000
MAX_ANSWER_BYTES = 1_000_000
#: Nodes that one question asks, those with the newest beats.
MOST_ASKED = 1_000

_log = structlog.get_logger(__name__)

#: Answers a call with anything that JSON can hold. May raise CallRefused, whose text the caller sees.
Handler = Callable[[Any], Awaitable[Any]]


class NodeSilent(RecadoError):
    """The node does not answer"""


class CallRefused(RecadoError):
    """The node has refused"""


class _NodeCall(Struct, frozen=True):
    """A question on its way."""

    number: int
    caller: str
    verb: str
    given: msgspec.Raw


class _NodeAnswer(Struct, frozen=True):
    """An answer on its way."""

    number: int
    value: msgspec.Raw = msgspec.Raw(b"null")
    #: Why there is none.
    refusal: str | None = None


_calls = msgspec.json.Decoder(_NodeCall)
_answers = msgspec.json.Decoder(_NodeAnswer)


class NodeCalls:
    """The calls of one node, both ways. Lives as long as the node; `close` ends the answers under way."""

    def __init__(self, redis: Commands, node: str) -> None:
        self._redis = redis
        self.node = node
        #: By verb.
        self.handlers: dict[str, Handler] = {}
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Ends the answers under way."""
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def ask(self, node: str, verb: str, given: Any = None) -> bytes:
        """The answer of a node, as JSON. Raises NodeSilent, CallRefused, StoreError."""
        if len(self._waiting) >= MOST_WAITING_CALLS:
            raise NodeSilent("too many calls wait for their answers")
        number = next(self._numbers)
        answer: asyncio.Future[bytes]
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                call = _NodeCall(number, self.node, verb, msgspec.Raw(encode_json(given)))
                if not await self._publish(node, CALL + msgspec.json.encode(call)):
                    raise NodeSilent
                return await answer
        except TimeoutError:
            raise NodeSilent from None
        finally:
            del self._waiting[number]

    async def ask_each(self, nodes: Iterable[str], verb: str, given: Any = None) -> dict[str, bytes | RecadoError]:
        """The answers of several nodes, asked at once, or what `ask` has raised for them. None waits for another one
        longer than its own time."""
        names = list(nodes)
        answers = await asyncio.gather(*(self.ask(name, verb, given) for name in names), return_exceptions=True)
        found: dict[str, bytes | RecadoError] = {}
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, RecadoError):
                raise answer
            found[name] = answer
        return found

    async def ask_all(self, verb: str, given: Any = None) -> tuple[dict[str, Any], dict[str, str]]:
        """The answers of all living nodes, this one among them, and for those without one the reason. Raises
        StoreError."""
        names: list[bytes] = await self._redis.command("ZREVRANGE", NODES, 0, MOST_ASKED - 1)
        nodes = [name.decode() for name in names if not name.startswith(b"~")]
        return values_of(await self.ask_each(nodes, verb, given), Any)

    def receive(self, data: bytes) -> None:
        """From the bus: a call of another node, or an answer."""
        try:
            if data.startswith(CALL):
                self._receive_call(_calls.decode(data[len(CALL) :]))
            else:
                self._receive_answer(_answers.decode(data[len(ANSWER) :]))
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            # Of a node of another version.
            _log.warning("call not readable", reason=str(error)[:200])

    def _receive_answer(self, answer: _NodeAnswer) -> None:
        waiting = self._waiting.get(answer.number)
        if waiting is None or waiting.done():
            return
        if answer.refusal is not None:
            waiting.set_exception(CallRefused(answer.refusal))
        else:
            waiting.set_result(bytes(answer.value))

    def _receive_call(self, call: _NodeCall) -> None:
        if len(self._answering) >= MOST_CALLS:
            # The caller hears nothing, and takes this node for too busy to answer: so it is.
            return
        task = start_logged(self._answer(call), "node call")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, call: _NodeCall) -> None:
        answer = await self._answer_to(call)
        try:
            await self._publish(call.caller, ANSWER + msgspec.json.encode(answer))
        except StoreError as error:
            _log.warning("call not answered", verb=call.verb, reason=str(error))

    async def _answer_to(self, call: _NodeCall) -> _NodeAnswer:
        handler = self.handlers.get(call.verb)
        if handler is None:
            return _NodeAnswer(call.number, refusal="this node does not know the command: it is of another version")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                value = encode_json(await handler(msgspec.json.decode(call.given)))
        except CallRefused as error:
            return _NodeAnswer(call.number, refusal=str(error))
        except (TimeoutError, msgspec.MsgspecError, ValueError, KeyError, TypeError) as error:
            return _NodeAnswer(call.number, refusal=f"{type(error).__name__}: {error}"[:200])
        if len(value) > MAX_ANSWER_BYTES:
            return _NodeAnswer(call.number, refusal=f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
        return _NodeAnswer(call.number, msgspec.Raw(value))

    async def _publish(self, node: str, data: bytes) -> bool:
        """False: nobody hears it."""
        publish = "SPUBLISH" if self._redis.is_sharded else "PUBLISH"
        return bool(await self._redis.command(publish, bus_channel(node), data))


def arguments_of(given: Any, kind: type[Any]) -> Any:
    """The arguments of a call as values of a type. Raises ValidationError, which the caller is told."""
    return msgspec.convert(given, kind)


def values_of(answers: Mapping[str, bytes | RecadoError], kind: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Answers as values of a type, by node, and for nodes without one the reason."""
    found: dict[str, Any] = {}
    silent: dict[str, str] = {}
    for node, answer in answers.items():
        if isinstance(answer, RecadoError):
            silent[node] = str(answer)
            continue
        try:
            found[node] = msgspec.json.decode(answer, type=kind)
        except msgspec.MsgspecError as error:
            silent[node] = f"not readable: {error}"
    return found, silent
