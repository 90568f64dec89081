"""The entry: a login with its throttle, the operator behind a cookie or a token, the password asked again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from msgspec import Struct, structs

from app.console.operators import Identity, Operator, OperatorStore
from app.console.passwords import PasswordChecks
from app.console.session import FAILURE_SECONDS, MAX_ADDRESS_FAILURES, MAX_FAILURES, Session, SessionStore
from app.core.network import network_of
from app.digests import digest
from app.errors import RequestRefused
from app.observe.counted_lines import CountedLines

#: The begin of every token: a search finds one that has leaked.
TOKEN_PREFIX = "recado_"
_MOST_TOKEN_CHARACTERS = 100
_WRONG = "Name or password is wrong."

_log = structlog.get_logger(__name__)


class Visit(Struct, frozen=True):
    """A request of an operator who is logged in. Lives as long as the request."""

    #: The value of the cookie.
    value: str
    session: Session
    operator: Operator

    def __repr__(self) -> str:
        return f"Visit({self.operator!r})"


class Entry:
    """Lives as long as the node. Its methods raise StoreError and JournalUnavailable when Redis or SQL is away."""

    def __init__(self, operators: OperatorStore, sessions: SessionStore, passwords: PasswordChecks) -> None:
        self._operators = operators
        self._sessions = sessions
        self._passwords = passwords
        self._refused = CountedLines(_log, "warning", "console login refused")

    async def log_in(self, name: str, password: str, address: str) -> tuple[str, Operator]:
        """Begins a session. Returns the value of its cookie. Raises RequestRefused."""
        await self._count_try(name, address)
        operator = await self._operators.find(name)
        await self._judge(operator, name, password, address)
        assert operator is not None, "no password is right for nobody"
        value, _ = await self._sessions.begin(operator.id, operator.version)
        await self._operators.note_use(operator.id)
        await self._operators.add_audit(name, "login", None, address, "")
        return value, operator

    async def confirm(self, visit: Visit, password: str, address: str) -> Visit:
        """Notes that an operator has given the password again. Raises RequestRefused."""
        name = visit.operator.name
        await self._count_try(name, address)
        await self._judge(visit.operator, name, password, address)
        return await self.confirm_proven(visit)

    @asynccontextmanager
    async def counted(self, mark: str, address: str) -> AsyncIterator[None]:
        """Counts a login at a provider as one of an address until it is right; each has a mark, which counts once.
        Raises RequestRefused."""
        await self._count_try(mark, address)
        if not await self._sessions.take_once(mark):
            raise RequestRefused("This login has been used: begin it again.", "login_used", 403)
        yield
        await self._sessions.forget_tries(mark, network_of(address))

    async def log_in_as(self, identity: Identity, proven_ms: int, address: str) -> str:
        """Begins a session of a person whom the provider knows, with the role and the sites that it has by now. Returns
        the value of its cookie. Raises RequestRefused."""
        operator = await self._operators.find_subject(identity.subject) or await self._make(identity)
        if operator.is_disabled:
            raise RequestRefused("Your account is disabled here.", "disabled", 403)
        name = operator.name
        if (operator.role, operator.sites) != (identity.role, identity.sites):
            await self._operators.change(name, ends_sessions=True, role=identity.role, sites=identity.sites)
            operator = await self._operators.find_subject(identity.subject) or operator
        value, _ = await self._sessions.begin(operator.id, operator.version, proven_ms)
        await self._operators.note_use(operator.id)
        await self._operators.add_audit(name, "login", None, address, "at the provider")
        return value

    async def _make(self, identity: Identity) -> Operator:
        added = await self._operators.add(identity.name, "", identity.role, identity.sites, identity.subject)
        operator = await self._operators.find_subject(identity.subject)
        if operator is None:
            raise RequestRefused("There is another operator of your name here, or too many.", "name_taken", 409)
        if added:
            await self._operators.add_audit(operator.name, "operators.add", None, operator.name, "at the provider")
        return operator

    async def confirm_proven(self, visit: Visit) -> Visit:
        """Notes that the provider has asked an operator for its proof again."""
        return structs.replace(visit, session=await self._sessions.confirm(visit.value, visit.session))

    async def note(self, visit: Visit, text: str) -> None:
        """Keeps a line for the operator's next page; "" takes it away."""
        await self._sessions.note(visit.value, visit.session, text)

    async def find_visit(self, value: str, *, is_request: bool = True) -> Visit | None:
        """The operator behind a cookie; None: log in first."""
        session = await self._sessions.find(value, is_request=is_request)
        operator = await self._operators.find_id(session.operator_id) if session is not None else None
        if session is None or operator is None or operator.is_disabled or operator.version != session.version:
            return None
        if is_request:
            await self._operators.note_use(operator.id)
        return Visit(value, session, operator)

    async def find_owner(self, token: str) -> Operator | None:
        """The operator of a token."""
        if not token.startswith(TOKEN_PREFIX) or len(token) > _MOST_TOKEN_CHARACTERS:
            return None
        operator = await self._operators.find_token(digest(token))
        return None if operator is None or operator.is_disabled else operator

    async def leave(self, value: str) -> None:
        """Ends a session."""
        await self._sessions.end(value)

    async def _count_try(self, name: str, address: str) -> None:
        """Before anything is asked of SQL, or computed: a stranger who has failed too often costs two commands."""
        of_name, of_address = await self._sessions.count_try(name, network_of(address))
        if of_name > MAX_FAILURES or of_address > MAX_ADDRESS_FAILURES:
            self._refused.tell(reason="too many failures", shown={"address": address})
            text = f"Too many failed logins, try again in {FAILURE_SECONDS // 60} minutes."
            raise RequestRefused(text, "too_many_failures", 429)

    async def _judge(self, operator: Operator | None, name: str, password: str, address: str) -> None:
        kept = operator.password_hash if operator is not None and not operator.is_disabled else None
        if not await self._passwords.is_right(kept, password):
            self._refused.tell(reason="wrong name or password", shown={"address": address})
            raise RequestRefused(_WRONG, "wrong_password", 401)
        await self._sessions.forget_tries(name, network_of(address))
