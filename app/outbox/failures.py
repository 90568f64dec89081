"""The failures of the tenant's PostgreSQL, and the translation of its driver's errors."""

import contextlib
from collections.abc import Iterator

import asyncpg

from app.errors import ConfigError, RecadoError

#: Classes of SQLSTATE: a failed connection, too few resources, an operator's intervention, a system error.
_PASSES = ("08", "53", "57", "58")
#: Deadlock, serialization failure, a lock or a session that took too long, and a server that is a standby just now.
_PASSES_TOO = frozenset(("40001", "40P01", "55P03", "25P03", "25P02", "25006"))
#: Every error of a connection that has ended. The driver calls it an internal error of its own when it is used within
#: the moment between the server's last words and the end of the socket.
GONE = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


class OutboxAway(RecadoError):
    """The database of the outbox does not answer."""


class OutboxUnusable(RecadoError):
    """The database has no outbox that this program can read."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns errors of the database into OutboxAway, where they pass, and else into OutboxUnusable."""
    try:
        yield
    except asyncpg.PostgresError as error:
        state = str(error.sqlstate or "")
        if state.startswith(_PASSES) or state in _PASSES_TOO:
            raise OutboxAway(_line(error)) from None
        raise OutboxUnusable(f"the outbox cannot be read: {_line(error)}") from None
    except asyncpg.ClientConfigurationError:
        # Its text may hold the DSN.
        raise ConfigError("RECADO_OUTBOX_DSN: expected a URL such as postgresql://user@host/name") from None
    except GONE as error:
        raise OutboxAway(_line(error)) from None


def _line(error: BaseException) -> str:
    """The reason in one line, without statements and values."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
