"""The ports of logging in: users with their keys, sessions, and the throttle, with the guarantees of their adapters."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Protocol

from msgspec import Struct

from app.config.settings import Site
from app.protocols.messenger.caller import ChatCaller, ChatUser
from app.protocols.messenger.scram import OWN_SCHEME, Keys, ScramExchange


class Judgement(Enum):
    """The judgement on a login and an address, by their failures."""

    #: Nothing is blocked.
    FREE = "free"
    #: The login or the address was blocked before.
    BLOCKED = "blocked"
    #: This failure has blocked both.
    NOW_BLOCKED = "now blocked"


class LoginThrottle(Protocol):
    """The failed logins of every node. Each method is atomic, and raises StoreUnavailable."""

    async def judge(
        self, site: Site, key: str, address: str, *, is_known: bool, is_right: bool | None = None
    ) -> tuple[Judgement, int]:
        """The judgement, and the seconds that the block has left. With `is_right` the try counts first: of tries that
        come at once, none behind the block learns anything. A login from an address that it is known from is blocked by
        that address alone."""


class Candidate(Struct, frozen=True):
    """A user who may be logging in. Its repr shows no key."""

    user: ChatUser
    keys: Keys
    #: Whether the user has logged in from this network before.
    is_known: bool
    #: The form of the password that the keys are made of: its own, or an imported one.
    scheme: str = OWN_SCHEME


class LoginFacts(Struct, frozen=True):
    """The answer to a login, which nobody may have. Its repr shows no key."""

    #: The keys of the user, or made-up ones.
    keys: Keys
    #: None: no proof will be right.
    candidate: Candidate | None
    #: The forms of imported passwords that users of the site may have.
    forms: Sequence[str]


class LoginAttempt:
    """A login between its two steps. Lives on its connection, until the second step."""

    def __init__(self, key: str, exchange: ScramExchange, candidate: Candidate | None, forms: Sequence[str]) -> None:
        self.key = key
        self.exchange = exchange
        #: None: no proof will be right.
        self.candidate = candidate
        #: The imported forms of passwords at this site: the same for every login, so that they tell nothing of a user.
        self.forms = forms

    def finish(self, proofs: Mapping[str, str]) -> str | None:
        """The server's last message to the proof that is one of this user's form; None: it is wrong. Proofs of other
        forms are not looked at, so an attempt is one guess."""
        scheme = self.candidate.scheme if self.candidate is not None else OWN_SCHEME
        return self.exchange.finish(proofs.get(scheme, proofs[OWN_SCHEME]))

    @property
    def is_known(self) -> bool:
        """Whether the user has logged in from this network before."""
        return self.candidate is not None and self.candidate.is_known


class Entered(Struct, frozen=True):
    """A user who is in: what the connection is opened with."""

    user: ChatUser
    #: The rows of the device and of the program.
    device_id: int
    app_id: int | None
    #: SHA-256 of the session's token.
    session: bytes
    #: When the session ends, in ms since the epoch.
    expires_at: int
    #: The user's rooms in the core, the user's own first.
    rooms: Sequence[str]


class AccountStore(Protocol):
    """The users and their sessions. Each method is one transaction, and raises ChatUnavailable."""

    async def facts_of(self, site: Site, key: str, network: str) -> LoginFacts:
        """The facts for a login. Takes the same time for each. Made-up keys stay the same for a login; their iterations
        are those of one user of the site, whom the login draws."""

    async def enter(self, caller: ChatCaller, candidate: Candidate, token: bytes, network: str) -> Entered | None:
        """Begins a session with this digest, and notes device and network; None: the user has changed meanwhile."""

    async def resume(self, caller: ChatCaller, token: bytes) -> Entered | None:
        """Takes a session up again; None: it is void, or that of another device."""

    async def renew(self, caller: ChatCaller, token: bytes) -> int | None:
        """Begins a session beside that of the caller, which lasts on; its end, or None: that one is void."""

    async def replace_keys(self, caller: ChatCaller, candidate: Candidate, keys: Keys, token: bytes) -> Entered | None:
        """Gives the user another password, ends all its sessions and begins one with this digest; None: the user has
        changed meanwhile."""

    async def end_sessions(self, caller: ChatCaller, *, are_all: bool) -> None:
        """Ends the session of the caller, or all of its user."""

    async def newest_void(self, site: Site) -> int:
        """The number of the last session that ended early."""

    async def voided_after(self, site: Site, number: int) -> Sequence[tuple[int, int]]:
        """Some users of whom sessions have ended early after this number, with their numbers, in their order."""

    async def living(self, site: Site, sessions: Sequence[bytes]) -> set[bytes]:
        """The sessions among these that are not void."""
