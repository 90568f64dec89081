"""Logging in: the two steps of SCRAM with the throttle, and sessions. Knows neither sockets nor SQL.

An unknown login, a disabled user and a wrong password have the same answers after the same steps.
"""

import secrets
from collections.abc import Mapping
from typing import Annotated, Any

import structlog
from msgspec import Meta, field

from app.clock import now_ms
from app.config.settings import Site
from app.core.network import network_of
from app.digests import digest
from app.observe.counted_lines import CountedLines
from app.observe.counts import Counts
from app.protocols.messenger.answers import ChatEvent, ChatRefusal
from app.protocols.messenger.bounds import MAX_FORM_CHARACTERS, MAX_FORMS, MAX_SCRAM_CHARACTERS, MAX_TOKEN_CHARACTERS
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.figures import MessengerCounts
from app.protocols.messenger.login_ports import AccountStore, Candidate, Entered, Judgement, LoginAttempt, LoginThrottle
from app.protocols.messenger.scram import OWN_SCHEME, Keys, ScramExchange, login_key, login_of

_TOKEN_BYTES = 32
ScramText = Annotated[str, Meta(max_length=MAX_SCRAM_CHARACTERS)]

_log = structlog.get_logger(__name__)


#: The proofs of imported forms of a password, by the name of the form.
Forms = Annotated[dict[Annotated[str, Meta(max_length=MAX_FORM_CHARACTERS)], ScramText], Meta(max_length=MAX_FORMS)]


class LoginData(ChatEvent):
    """`login`: the first message of SCRAM."""

    data: ScramText


class ProofData(ChatEvent):
    """`proof`: the last message of SCRAM, for the password itself and for its imported forms."""

    data: ScramText
    forms: Forms = field(default_factory=dict)

    @property
    def proofs(self) -> dict[str, str]:
        """The messages by form."""
        return {**self.forms, OWN_SCHEME: self.data}


class Logins:
    """The logins of all sites on one node. Lives as long as the node."""

    def __init__(self, accounts: AccountStore, throttle: LoginThrottle, counts: Counts) -> None:
        self._accounts = accounts
        self._throttle = throttle
        self._counts = counts
        self._blocked = CountedLines(_log, "warning", "login blocked")
        self._wrong = CountedLines(_log, "info", "login refused")

    async def begin(self, caller: ChatCaller, client_first: str) -> LoginAttempt:
        """The first step. Raises ChatRefusal while the login or the address is blocked."""
        login = login_of(client_first)
        key = login_key(login)
        facts = await self._accounts.facts_of(caller.site, key, network_of(caller.address))
        attempt = LoginAttempt(key, ScramExchange(login, client_first, facts.keys), facts.candidate, facts.forms)
        await self._judge(caller, attempt, is_right=None)
        return attempt

    async def prove(
        self, caller: ChatCaller, attempt: LoginAttempt, proofs: Mapping[str, str]
    ) -> tuple[str, Candidate]:
        """The second step: the server's last message, and the user. Raises ChatRefusal."""
        answer = attempt.finish(proofs)
        is_right = answer is not None and attempt.candidate is not None
        await self._judge(caller, attempt, is_right=is_right)
        if answer is None or attempt.candidate is None:
            self._note(caller, "wrong", "wrong login or password")
            self._wrong.tell(site=caller.site.name, shown={"connection": caller.link.log_name})
            raise ChatRefusal("wrong_login", "Login or password is wrong.")
        return answer, attempt.candidate

    async def enter(self, caller: ChatCaller, candidate: Candidate) -> tuple[str, Entered]:
        """Begins a session: its token, which nobody else ever knows. Raises ChatRefusal."""
        token = new_token()
        entered = await self._accounts.enter(caller, candidate, digest(token), network_of(caller.address))
        if entered is None:
            raise ChatRefusal("wrong_login", "Login or password is wrong.")
        self._counts_of(caller.site).logins["accepted"] += 1
        return token, entered

    async def resume(self, caller: ChatCaller, token: str) -> Entered | None:
        """Takes a session up again; None: it is void."""
        entered = await self._accounts.resume(caller, digest(token)) if len(token) <= MAX_TOKEN_CHARACTERS else None
        if entered is None:
            self._note(caller, "void", "session void")
        else:
            self._counts_of(caller.site).logins["session"] += 1
        return entered

    async def renew(self, caller: ChatCaller) -> tuple[str, int] | None:
        """Begins a session beside the caller's: its token and its end; None: the caller's is void."""
        token = new_token()
        expires_at = await self._accounts.renew(caller, digest(token))
        if expires_at is None:
            return None
        caller.session = digest(token)
        return token, expires_at

    async def replace_keys(self, caller: ChatCaller, candidate: Candidate, keys: Keys) -> tuple[str, Entered]:
        """Gives the user another password, and a session beside which no other lasts. Raises ChatRefusal."""
        token = new_token()
        entered = await self._accounts.replace_keys(caller, candidate, keys, digest(token))
        if entered is None:
            raise ChatRefusal("wrong_login", "Login or password is wrong.")
        return token, entered

    async def end_sessions(self, caller: ChatCaller, *, are_all: bool) -> None:
        """Ends the session of the caller, or all of its user."""
        await self._accounts.end_sessions(caller, are_all=are_all)

    async def _judge(self, caller: ChatCaller, attempt: LoginAttempt, *, is_right: bool | None) -> None:
        judgement, seconds = await self._throttle.judge(
            caller.site, attempt.key, caller.address, is_known=attempt.is_known, is_right=is_right
        )
        if judgement is Judgement.FREE:
            return
        if judgement is Judgement.NOW_BLOCKED:
            # The answer to the failure itself is that of every other one.
            shown = {"login": attempt.key, "address": caller.address, "seconds": seconds}
            self._blocked.tell(site=caller.site.name, shown=shown)
            return
        self._note(caller, "blocked", "login blocked")
        raise ChatRefusal("blocked", "Too many failed logins, try again later.", retry_after=seconds)

    def _note(self, caller: ChatCaller, result: str, reason: str) -> None:
        self._counts_of(caller.site).logins[result] += 1
        if self._counts.records.is_kept:
            about: dict[str, Any] = {"device": caller.device, "address": caller.address, "reason": reason}
            self._counts.records.add("refusals", caller.site.name, {"at": now_ms(), "protocol": "messenger", **about})

    def _counts_of(self, site: Site) -> MessengerCounts:
        return self._counts.of(site.name).part(MessengerCounts)


def new_token() -> str:
    """The token of a session."""
    return secrets.token_urlsafe(_TOKEN_BYTES)
