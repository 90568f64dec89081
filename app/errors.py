"""Recado's own errors; a leaf module, so that every layer can raise and catch them without a cycle.

RecadoError
├── ConfigError             a setting is wrong; the program ends with status 2
├── BadRequest              a caller's request is wrong; `status` is the HTTP answer
├── RequestRefused                 the same, with a code for programs
├── GuardRefused            a message's guard does not hold in Redis; nothing is stored
├── RoomsChanged            the rooms of a connect lack a change; nothing is registered
├── OtherRequest            an idempotency key belongs to another request; nothing is stored
├── AuthRefused             the tenant's backend refused a user; the text reaches the client
├── TicketRefused           a resume ticket does not count; the text says why
├── LimitReached            a site, user or address has had its share; `status` is the HTTP answer
└── StoreError              Redis cannot do what was asked
    ├── StoreUnavailable    ... because it is away, starting, full or read-only: try again later
    │   └── StoreAway       ... because there is no link: nothing was sent, so nothing has happened
    └── WrongType           ... because a key holds something else: it is the same next time
"""


class RecadoError(Exception):
    """Something in Recado failed."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


class ConfigError(RecadoError):
    """The configuration is not usable."""

    @property
    def mistakes(self) -> list[str]:
        """One line for each mistake."""
        return str(self).splitlines()


class BadRequest(RecadoError):
    """The request is not what this endpoint expects."""

    def __init__(self, message: str | None = None, status: int = 400, phrase: str = "") -> None:
        super().__init__(message)
        self.status = status
        #: The words of the server that the endpoint replaces, for the status line; "": it has none.
        self.phrase = phrase


class RequestRefused(RecadoError):
    """The request is refused."""

    def __init__(self, message: str | None = None, code: str = "bad_parameter", status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class GuardRefused(RecadoError):
    """The thing that the message depends on is not there."""

    def __init__(self, message: str | None = None, is_missing: bool = False) -> None:
        super().__init__(message)
        #: Whether the field is absent; otherwise it has another value.
        self.is_missing = is_missing


class RoomsChanged(RecadoError):
    """The rooms of the user have changed meanwhile."""


class OtherRequest(RecadoError):
    """Idempotency-Key: expected the request that came first with this key."""


class AuthRefused(RecadoError):
    """Authentication failed"""


class TicketRefused(RecadoError):
    """The resume ticket does not count."""

    def __init__(self, message: str | None = None, result: str = "invalid") -> None:
        super().__init__(message)
        #: The result as the metric `recado_tickets` names it.
        self.result = result


class LimitReached(RecadoError):
    """A limit of the site is reached."""

    def __init__(
        self, message: str | None = None, limit: str = "", status: int = 429, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        #: The limit's key in the section `limits` of the site.
        self.limit = limit
        self.status = status
        #: The seconds until the caller may try again, where they are known.
        self.retry_after_seconds = retry_after_seconds


class StoreError(RecadoError):
    """The message store failed."""


class StoreUnavailable(StoreError):
    """The message store is not available at the moment, try again."""


class StoreAway(StoreUnavailable):
    """The message store is away, try again."""


class WrongType(StoreError):
    """A key holds something of another type than expected."""
