"""Operators and their tokens, as values, and the port to where they are kept."""

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from app.protocols.operations import Actor, Role

#: Operators, and tokens of one operator, that there may be.
MAX_OPERATORS = 1_000
MAX_TOKENS = 20
ROLES = {role.name.lower(): role for role in Role}


class Operator(Struct, frozen=True, kw_only=True):
    """A person who may log in. Its repr has no secret."""

    id: int
    name: str
    password_hash: str
    role: Role
    #: None: every site.
    sites: tuple[str, ...] | None = None
    #: Grows when all its sessions end.
    version: int = 0
    is_disabled: bool = False
    created_at: int = 0
    used_at: int | None = None
    #: The person at a provider that it is: then it has no password.
    subject: str | None = None

    @property
    def caller(self) -> Actor:
        """The operator as operations see it. An administrator knows every site."""
        is_bound = self.sites is not None and self.role is not Role.ADMIN
        return Actor(self.name, self.role, frozenset(self.sites or ()) if is_bound else None)

    def __repr__(self) -> str:
        return f"Operator({self.name!r})"


class Identity(Struct, frozen=True):
    """A person as a provider describes it. Lives as long as the login."""

    #: The issuer, a space, and its name for the person, which no other person gets.
    subject: str
    name: str
    role: Role
    #: None: every site.
    sites: tuple[str, ...] | None


class Token(Struct, frozen=True, kw_only=True):
    """A key of an operator for the API, without the key."""

    id: int
    name: str
    created_at: int
    used_at: int | None


class OperatorStore(Protocol):
    """The operators of all nodes. Each method raises JournalUnavailable."""

    async def find(self, name: str) -> Operator | None:
        """An operator by its name."""

    async def find_id(self, id: int) -> Operator | None:
        """An operator by its id, which no later operator gets."""

    async def find_subject(self, subject: str) -> Operator | None:
        """The operator whom a provider means."""

    async def find_token(self, digest: bytes) -> Operator | None:
        """The operator of a token. Its use is noted, at most once a minute."""

    async def list_operators(self) -> Sequence[Operator]:
        """All operators, by name."""

    async def add(
        self, name: str, password_hash: str, role: Role, sites: Sequence[str] | None, subject: str | None = None
    ) -> bool:
        """Adds an operator. False: the name or the subject is taken, or there are too many."""

    async def change(self, name: str, *, ends_sessions: bool, **columns: Any) -> bool:
        """Changes columns of an operator. False: there is none."""

    async def remove(self, name: str) -> bool:
        """Removes an operator with its tokens. False: there is none."""

    async def note_use(self, id: int) -> None:
        """Notes that an operator was here, at most once a minute."""

    async def list_tokens(self, operator_id: int) -> Sequence[Token]:
        """The tokens of an operator, oldest first."""

    async def add_token(self, operator_id: int, name: str, digest: bytes) -> bool:
        """Adds a token. False: there are too many."""

    async def remove_token(self, operator_id: int, id: int) -> bool:
        """Removes a token. False: there is none."""

    async def add_audit(self, operator: str, action: str, site: str | None, target: str, detail: str) -> None:
        """Writes down what an operator did."""
