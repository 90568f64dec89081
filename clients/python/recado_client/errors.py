"""The errors of this package.

    RecadoError
    ├── BadInput      a value cannot be meant; nothing was sent
    ├── Refused       the server answered an error
    ├── Unreachable   no answer, or not in time
    ├── BadAnswer     an answer that is too long, or not what it should be
    └── BadWebhook    a webhook that this site's server has not made, or not now

No text of an error has a secret or a message's arguments in it.
"""

_MOST_SHOWN = 500


class RecadoError(Exception):
    """Any error of this package."""

    #: The pause that the server asked for, in seconds.
    retry_after = 0.0

    @property
    def passes(self) -> bool:
        """Whether the same call may succeed a moment later."""
        return False


class BadInput(RecadoError, ValueError):
    """A value that cannot be meant. Nothing was sent."""


class Refused(RecadoError):
    """The server, or something before it, answered with an error."""

    #: The statuses of faults that pass.
    PASSING = frozenset((408, 429, 500, 502, 503, 504))

    def __init__(self, status: int, error: str, code: str | None = None, retry_after: float = 0.0) -> None:
        """Keep what the answer says; `code` is for programs, `error` for people."""
        super().__init__(f"{status}: {error[:_MOST_SHOWN]}")
        self.status = status
        self.code = code
        self.error = error[:_MOST_SHOWN]
        self.retry_after = retry_after

    @property
    def passes(self) -> bool:
        """Whether the status is that of a fault that passes."""
        return self.status in self.PASSING


class Unreachable(RecadoError):
    """No answer came, or not in time. The server may have done what was asked."""

    @property
    def passes(self) -> bool:
        """Always: a repeat may reach the server."""
        return True


class BadAnswer(RecadoError):
    """The answer is too long, or not what a Recado server answers."""


class BadWebhook(RecadoError):
    """A request that was not signed with this site's secret, or not in the last minutes. Answer 400."""
