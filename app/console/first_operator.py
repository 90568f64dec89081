"""The operator that the settings name: made, or given its password, at each start, as soon as SQL answers."""

import asyncio

import structlog

from app.config.settings import Config
from app.console.operators import OperatorStore
from app.console.passwords import PasswordChecks
from app.errors import RecadoError, RequestRefused
from app.journal.database import JournalUnavailable, open_database
from app.journal.schema import upgrade_schema
from app.protocols.operations import Role

_RETRY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


async def make_first(config: Config, operators: OperatorStore, passwords: PasswordChecks) -> None:
    """Makes the administrator `console.operator`, with retry while SQL is away."""
    name, password = config.console.operator, config.console.operator_password
    assert name is not None, "checked by the caller"
    assert password is not None, "checked with the settings"
    assert config.journal_url is not None, "checked by the caller"
    told = ""
    while True:
        try:
            # The writer makes the tables too; whoever comes first.
            engine = open_database(config.journal_url, is_writer=True)
            try:
                await upgrade_schema(engine)
            finally:
                await engine.dispose()
            await _make(name, password, operators, passwords)
            return
        except JournalUnavailable as error:
            if told != str(error):
                told = str(error)
                _log.warning("console operator not made yet", reason=told)
            await asyncio.sleep(_RETRY_SECONDS)
        except RecadoError as error:
            _log.error("console operator not made", reason=str(error))
            return


async def _make(name: str, password: str, operators: OperatorStore, passwords: PasswordChecks) -> None:
    found = await operators.find(name)
    if found is None and await operators.add(name, await passwords.hash(password), Role.ADMIN, None):
        return
    # Another node may have made it meanwhile.
    found = found or await operators.find(name)
    if found is not None and found.subject is not None:
        raise RequestRefused("console.operator: an operator of the provider has this name")
    if found is not None and await passwords.is_right(found.password_hash, password):
        if found.role is not Role.ADMIN or found.is_disabled:
            await operators.change(name, ends_sessions=True, role=Role.ADMIN, is_disabled=False)
        return
    columns = {"password_hash": await passwords.hash(password), "role": Role.ADMIN, "is_disabled": False}
    await operators.change(name, ends_sessions=True, **columns)
