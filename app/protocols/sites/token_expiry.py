"""The end of tokens: a client is told in time, hands in the next token without a new connection, or is closed.

One deadline wheel serves all connections. The terms that are due are worked off in slices, because the tokens of many
clients may end in the same second.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog

from app.config.settings import Site
from app.core.address import room_names
from app.errors import AuthRefused
from app.observe.counts import Counts
from app.protocols.sites.figures import SitesCounts
from app.protocols.sites.ports import ClientLink
from app.protocols.sites.token_gate import TokenGate
from app.protocols.sites.tokens import TokenIdentity, TokenRefused
from app.transport.deadline_wheel import NOT_WAITING, DeadlineWheel
from app.watched_tasks import start_logged

EVENT = "_token"
EXPIRING = "_token_expiring"
EXPIRED = "token expired"
ROOMS_CHANGED = "rooms changed"
#: A client is told this time before the end of its token.
NOTICE_SECONDS = 60
#: The least time between two tokens that a connection hands in.
RENEWAL_SECONDS = 1.0
#: The clients that are told or closed in one turn of the event loop.
MOST_DUE_A_TURN = 64
_TICK_SECONDS = 1.0
#: The longest wait: the wall clock may be set meanwhile.
_LOOK_SECONDS = 600.0
_MILLISECONDS = 1000

_log = structlog.get_logger(__name__)

#: Takes the client's new token and identity, when it may stay with them.
Renewed = Callable[[str, TokenIdentity], None]


class TokenTerm:
    """The token of one connection. Lives as long as the connection; `TokenExpiries.stop` ends it."""

    __slots__ = (
        "_owner",
        "bucket",
        "close",
        "connection",
        "deadline",
        "identity",
        "is_checking",
        "is_told",
        "next_token_at",
        "on_renewed",
        "site",
    )

    def __init__(
        self,
        owner: "TokenExpiries",
        connection: ClientLink,
        site: Site,
        identity: TokenIdentity,
        close: Callable[[str], None],
        on_renewed: Renewed,
    ) -> None:
        self._owner = owner
        self.connection = connection
        self.site = site
        self.identity = identity
        #: Ends the connection with a reason, so that the client comes back.
        self.close = close
        self.on_renewed = on_renewed
        #: Whether the client was told of the end of this token.
        self.is_told = False
        self.is_checking = False
        self.next_token_at = 0.0
        self.bucket = NOT_WAITING
        self.deadline = 0.0

    def deadline_passed(self, now: float) -> None:
        """Something may be due. The deadline wheel calls this."""
        self._owner.take_due(self)


class TokenExpiries:
    """The tokens of all connections. Lives as long as the server."""

    def __init__(self, gate: TokenGate, counts: Counts) -> None:
        self._gate = gate
        self._counts = counts
        self.wheel = DeadlineWheel(_TICK_SECONDS)
        self._due: deque[TokenTerm] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, term: TokenTerm) -> None:
        """Watches the token of a connection that was just admitted."""
        now_ms = self._gate.clock()
        next_ms = term.identity.ends_at_ms
        if not term.is_told:
            next_ms = min(next_ms, term.identity.expires_at_ms - NOTICE_SECONDS * _MILLISECONDS)
        wait_seconds = min(_LOOK_SECONDS, max(0.0, (next_ms - now_ms) / _MILLISECONDS))
        self.wheel.schedule(term, asyncio.get_running_loop().time() + wait_seconds)

    def stop(self, term: TokenTerm | None) -> None:
        """Ends the watch of a closed connection. Idempotent."""
        if term is not None:
            self.wheel.cancel(term)

    def receive(self, term: TokenTerm, args: list[Any], answer: Callable[[dict[str, Any]], None]) -> None:
        """The client has handed in a token: it stays, is closed because its rooms are others, or hears the reason."""
        now = asyncio.get_running_loop().time()
        if term.is_checking or now < term.next_token_at:
            answer({"error": f"expected at most one token in {RENEWAL_SECONDS:g} s"})
        elif not args or not isinstance(args[0], str):
            answer({"error": "expected the token as the first argument"})
        else:
            term.is_checking, term.next_token_at = True, now + RENEWAL_SECONDS
            task = start_logged(self._renew(term, args[0], answer), "token renewal")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Ends the checks under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take_due(self, term: TokenTerm) -> None:
        """Puts a term behind the others that are due."""
        if not self._due:
            asyncio.get_running_loop().call_soon(self._work_off)
        self._due.append(term)

    def _work_off(self) -> None:
        for _ in range(min(MOST_DUE_A_TURN, len(self._due))):
            self._look(self._due.popleft())
        if self._due:
            asyncio.get_running_loop().call_soon(self._work_off)

    def _look(self, term: TokenTerm) -> None:
        if term.connection.is_closed:
            return
        now_ms, identity = self._gate.clock(), term.identity
        if now_ms >= identity.ends_at_ms:
            self._counts.of(term.site.name).part(SitesCounts).tokens["ran out"] += 1
            term.close(EXPIRED)
            return
        left_ms = identity.expires_at_ms - now_ms
        if not term.is_told and left_ms <= NOTICE_SECONDS * _MILLISECONDS:
            term.is_told = True
            seconds = max(0, round(left_ms / _MILLISECONDS))
            term.connection.send_event(EXPIRING, [{"expires_in": seconds}])
        # Writing may have closed it.
        if not term.connection.is_closed:
            self.start(term)

    async def _renew(self, term: TokenTerm, token: str, answer: Callable[[dict[str, Any]], None]) -> None:
        try:
            identity = await self._gate.identify(term.site, token)
            if identity is None:
                raise TokenRefused("the token is of no issuer of this site")
            if not identity.is_same_user(term.site, term.identity):
                self._counts.of(term.site.name).part(SitesCounts).tokens["other user"] += 1
                raise TokenRefused("the token is of another user")
        except (TokenRefused, AuthRefused) as refusal:
            _log.info("token not renewed", site=term.site.name, reason=str(refusal))
            answer({"error": str(refusal)})
            return
        finally:
            term.is_checking = False
        if term.connection.is_closed:
            return
        if room_names(identity.rooms) != room_names(term.identity.rooms):
            # A connection keeps its rooms. The client comes again with the new token, and gets the new rooms.
            answer({"ok": True, "reconnect": True})
            term.close(ROOMS_CHANGED)
            return
        term.identity, term.is_told = identity, False
        term.on_renewed(token, identity)
        self.wheel.cancel(term)
        self.start(term)
        answer({"ok": True, "expires_in": max(0, (identity.expires_at_ms - self._gate.clock()) // _MILLISECONDS)})
