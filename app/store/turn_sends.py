"""The messages for users that a node is asked to send in one turn of the loop: one script stores those of a site.

Each keeps the promises of a send of its own; the order is that of the calls. A message with options, an audience, a
guard or an idempotency key, one to a shared room, and one of a site with limits is sent by itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from app.config.settings import Site
from app.core.address import addresses, is_user_room
from app.core.message import Message
from app.core.options import NO_OPTIONS
from app.core.ports import Stored
from app.errors import RecadoError, StoreError, StoreUnavailable
from app.redis.link import Word
from app.watched_tasks import start_logged

#: The messages of one run, and their bytes: some milliseconds of Redis's time.
MOST_IN_TURN = 64
MAX_TURN_BYTES = 250 * 1024
#: A larger message, and one to more users, is sent by itself.
_MAX_SMALL_BYTES = 65_536
_MOST_ROOMS = 8
#: The words of an answer for one message.
_WORDS = 4

#: Runs the script for messages of a site.
RunTurn = Callable[[Site, Sequence[Message], Sequence[Word]], Awaitable[Any]]
#: Sends one message by itself.
SendAlone = Callable[[Message], Awaitable[Stored]]


class _Turn:
    """The messages of one site in one turn. Lives until the script has answered."""

    __slots__ = ("bytes", "messages", "results", "site")

    def __init__(self, site: Site) -> None:
        self.site = site
        self.messages: list[Message] = []
        self.results: list[asyncio.Future[Stored]] = []
        self.bytes = 0


class TurnSends:
    """The turns of one node. Lives as long as the node."""

    def __init__(self, run: RunTurn, send_alone: SendAlone, note_seq: Callable[[str, int], None]) -> None:
        self._run = run
        self._send_alone = send_alone
        self._note_seq = note_seq
        self._turns: dict[str, _Turn] = {}

    def add(self, message: Message) -> "asyncio.Future[Stored]":
        """Sends the message at the end of this turn, or before the next script of its site."""
        loop, site = asyncio.get_running_loop(), message.site
        turn = self._turns.get(site.name)
        if turn is None:
            turn = self._turns[site.name] = _Turn(site)
            loop.call_soon(self._end, turn)
        result: asyncio.Future[Stored] = loop.create_future()
        turn.messages.append(message)
        turn.results.append(result)
        turn.bytes += len(message.body)
        if len(turn.messages) >= MOST_IN_TURN or turn.bytes >= MAX_TURN_BYTES:
            self.flush(site.name)
        return result

    def flush(self, site: str) -> None:
        """Sends the messages of a site now: a script that is run after this runs after them."""
        if self._turns and (turn := self._turns.pop(site, None)) is not None:
            answer = self._run(turn.site, turn.messages, _words_of(turn.messages))
            start_logged(self._finish(turn, answer), "sends of a turn")

    def _end(self, turn: _Turn) -> None:
        if self._turns.get(turn.site.name) is turn:
            self.flush(turn.site.name)

    async def _finish(self, turn: _Turn, answer: Awaitable[Any]) -> None:
        try:
            words = await self._words(turn, answer)
            for number in range(len(words) // _WORDS):
                seq, stored, overflowed, tells = words[number * _WORDS : (number + 1) * _WORDS]
                self._note_seq(turn.site.name, int(seq))
                result = turn.results[number]
                if stored >= 0 and not result.done():
                    result.set_result(Stored(int(seq), stored, overflowed, 0, tells))
            left = [pair for pair in zip(turn.messages, turn.results, strict=True) if not pair[1].done()]
            # Given now, in their order.
            answers = [self._send_alone(message) for message, _ in left]
            await asyncio.gather(*(_pass_on(answer, result) for answer, (_, result) in zip(answers, left, strict=True)))
        finally:
            # Nobody waits for ever.
            _fail_all(turn, StoreUnavailable)

    async def _words(self, turn: _Turn, answer: Awaitable[Any]) -> Sequence[Any]:
        """The words of the messages that are stored, or that have failed."""
        try:
            words: Sequence[Any] = await answer
        except StoreUnavailable as error:
            _fail_all(turn, type(error), str(error))
            return ()
        except StoreError:
            # Nothing is stored: one message hits a key that holds something else, and the others do not.
            return ()
        return words


def is_for_turn(message: Message) -> bool:
    """Whether the message may be sent with others."""
    if message.options is not NO_OPTIONS or message.audiences or message.once or message.guard or message.but:
        return False
    site, limits = message.site, message.site.limits
    if limits.sends_per_second or limits.stored_messages or limits.stored_bytes:
        return False
    if len(message.body) > _MAX_SMALL_BYTES or not 0 < len(message.rooms) <= _MOST_ROOMS:
        return False
    return all(is_user_room(site, room) and room != site.public_channel for room in message.rooms)


def _words_of(messages: Sequence[Message]) -> list[Word]:
    words: list[Word] = []
    for one in messages:
        rooms = addresses(one.site, one.rooms)
        names = msgspec.json.encode(list(one.rooms))
        words += (one.id, one.event, one.body, int(one.resync), names, len(rooms), *rooms)
    return words


async def _pass_on(answer: Awaitable[Stored], result: "asyncio.Future[Stored]") -> None:
    try:
        stored = await answer
    except RecadoError as error:
        _fail(result, error)
    else:
        if not result.done():
            result.set_result(stored)


def _fail_all(turn: _Turn, kind: type[StoreError], text: str | None = None) -> None:
    for result in turn.results:
        if not result.done():
            # One for each: a traceback keeps the frames of all callers that it passes.
            _fail(result, kind(text))


def _fail(result: "asyncio.Future[Stored]", error: Exception) -> None:
    if not result.done():
        result.set_exception(error)
        # Keeps asyncio quiet: the caller may have been cancelled.
        result.exception()
