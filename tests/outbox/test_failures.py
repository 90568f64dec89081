"""Errors of the driver, as those of the outbox."""

from __future__ import annotations

import asyncpg
import pytest

from app.errors import ConfigError
from app.outbox.failures import OutboxAway, OutboxUnusable, translated


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (asyncpg.CannotConnectNowError("starting"), OutboxAway),
        (asyncpg.AdminShutdownError("ends"), OutboxAway),
        (asyncpg.TooManyConnectionsError("full"), OutboxAway),
        (asyncpg.DeadlockDetectedError("deadlock"), OutboxAway),
        (asyncpg.ReadOnlySQLTransactionError("standby"), OutboxAway),
        (asyncpg.IdleInTransactionSessionTimeoutError("stopped"), OutboxAway),
        (asyncpg.InterfaceError("closed"), OutboxAway),
        (asyncpg.InternalClientError("another operation is in progress"), OutboxAway),
        (ConnectionRefusedError(), OutboxAway),
        (TimeoutError(), OutboxAway),
        (asyncpg.InvalidPasswordError("no"), OutboxUnusable),
        (asyncpg.UndefinedTableError("no table"), OutboxUnusable),
        (asyncpg.InsufficientPrivilegeError("no right"), OutboxUnusable),
        (asyncpg.ClientConfigurationError("the DSN"), ConfigError),
    ],
)
def test_each_error(error: Exception, expected: type[Exception]) -> None:
    """An error that passes is one of a database that is away, every other one ends the program."""
    with pytest.raises(expected) as raised, translated():
        raise error
    assert "the DSN" not in str(raised.value)
    assert "\n" not in str(raised.value)
