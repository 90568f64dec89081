"""A login of an operator, as a value, and the port to where sessions and failed logins are kept."""

from typing import Protocol

from msgspec import Struct

from app.clock import now_ms

#: A session ends after this time, and after this time without a request.
SESSION_SECONDS = 12 * 3600
IDLE_SECONDS = 3600
#: How long a password that was just given counts for what hurts.
CONFIRMED_SECONDS = 300
#: So many failures of a name from an address within this time block further tries, for the same time.
MAX_FAILURES = 5
#: So many of an address, whatever the names: each costs a check of a password.
MAX_ADDRESS_FAILURES = 60
FAILURE_SECONDS = 900


class Session(Struct, frozen=True):
    """A login of an operator. Its repr has no secret."""

    operator_id: int
    #: The count of the operator's ended logins at its begin; see `Operator.version`.
    version: int
    #: Each change that a page asks for shows it.
    csrf: str
    began_ms: int
    #: When the password was last given, or the provider has last asked for it.
    confirmed_ms: int
    #: A line for the next page.
    notice: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it has lasted as long as a session may."""
        return now_ms() >= self.began_ms + SESSION_SECONDS * 1000

    @property
    def is_confirmed(self) -> bool:
        """Whether the password was given a short time ago."""
        return now_ms() < self.confirmed_ms + CONFIRMED_SECONDS * 1000

    def __repr__(self) -> str:
        return f"Session({self.operator_id})"


class SessionStore(Protocol):
    """The sessions of all nodes. Each method raises StoreError."""

    async def begin(self, operator_id: int, version: int, confirmed_ms: int | None = None) -> tuple[str, Session]:
        """Begins a session of an operator whose identity was proven then; None: now. Returns the value of its cookie,
        which nobody knows before, and the session."""

    async def find(self, value: str, *, is_request: bool = True) -> Session | None:
        """The session of a cookie; None: it has none, or an old one. With `is_request` the idle time begins again."""

    async def confirm(self, value: str, session: Session) -> Session:
        """Notes that the password was given again."""

    async def note(self, value: str, session: Session, notice: str) -> None:
        """Keeps a line for the next page; "" takes it away."""

    async def end(self, value: str) -> None:
        """Ends a session."""

    async def count_try(self, name: str, address: str) -> tuple[int, int]:
        """Counts a login before its password is checked, so that tries at the same moment count too. Returns how many
        there were of a name from an address, none of them successful, and of the address without those that were."""

    async def forget_tries(self, name: str, address: str) -> None:
        """A login was right: forgets the failures of its name, and does not count it for its address."""

    async def take_once(self, mark: str) -> bool:
        """Notes a mark of a login at a provider. False: it has come before."""
