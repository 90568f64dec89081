"""The page of operators, and what administrators may do with them."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from app.clock import rfc3339
from app.config.keys import MAX_PASSWORD, MIN_PASSWORD, OperatorName
from app.console.operators import ROLES, Operator, OperatorStore
from app.console.page import ConsolePage
from app.console.passwords import PasswordChecks
from app.errors import RequestRefused
from app.protocols.operations import Call, Inputs, Operation, Role, Words

OPERATORS = ConsolePage("operators", "Operators", "operators.list")

Password = Annotated[str, Meta(min_length=MIN_PASSWORD, max_length=MAX_PASSWORD)]
SiteList = Annotated[tuple[Words, ...], Meta(max_length=1_000)]
RoleName = Literal["admin", "operator", "viewer"]


def no_password() -> RequestRefused:
    """The refusal of a password for an operator who has none."""
    return RequestRefused("This operator logs in at the provider, without a password here.", "no_password", 409)


class OperatorPath(Inputs, frozen=True, kw_only=True):
    """The name of an operator."""

    name: OperatorName


class NewOperator(OperatorPath, frozen=True, kw_only=True):
    """A new operator."""

    password: Password
    role: RoleName = "operator"
    #: The sites that it may know of, unless `every_site`.
    sites: SiteList = ()
    every_site: bool = False


class OperatorChange(OperatorPath, frozen=True, kw_only=True):
    """Changes of an operator; what is not given stays."""

    role: RoleName | None = None
    sites: SiteList | None = None
    every_site: bool = False
    is_disabled: bool | None = None
    password: Password | None = None


class _Actions:
    """The operations. Lives as long as the node."""

    def __init__(self, operators: OperatorStore, passwords: PasswordChecks) -> None:
        self._operators = operators
        self._passwords = passwords

    async def list(self, call: Call) -> dict[str, Any]:
        found = await self._operators.list_operators()
        return {"items": [_shown(operator) for operator in found], "cursor": None}

    async def add(self, call: Call) -> dict[str, Any]:
        given: NewOperator = call.given
        kept = await self._passwords.hash(given.password)
        sites = None if given.every_site else given.sites
        if not await self._operators.add(given.name, kept, ROLES[given.role], sites):
            raise RequestRefused("name: expected one that no operator has, and room for one more.", "name_taken", 409)
        return {"ok": True}

    async def change(self, call: Call) -> dict[str, Any]:
        given: OperatorChange = call.given
        _not_oneself(call, given.name)
        columns: dict[str, Any] = {}
        if given.role is not None:
            columns["role"] = ROLES[given.role]
        if given.sites is not None or given.every_site:
            columns["sites"] = None if given.every_site else given.sites
        if given.is_disabled is not None:
            columns["is_disabled"] = given.is_disabled
        if given.password is not None:
            known = await self._operators.find(given.name)
            if known is not None and known.subject is not None:
                raise no_password()
            columns["password_hash"] = await self._passwords.hash(given.password)
        if not columns:
            raise RequestRefused("Expected something to change.")
        _found(await self._operators.change(given.name, ends_sessions=True, **columns))
        return {"ok": True}

    async def remove(self, call: Call) -> dict[str, Any]:
        _not_oneself(call, call.given.name)
        _found(await self._operators.remove(call.given.name))
        return {"ok": True}

    async def end_sessions(self, call: Call) -> dict[str, Any]:
        _found(await self._operators.change(call.given.name, ends_sessions=True))
        return {"ok": True}


def operator_operations(operators: OperatorStore, passwords: PasswordChecks) -> list[Operation]:
    """Everything about operators."""
    do = _Actions(operators, passwords)
    path, admin, secrets = "/operators/{name}", Role.ADMIN, frozenset(["password"])
    return [
        Operation("operators.list", "List the operators", "GET", "/operators", admin, do.list),
        Operation("operators.add", "Add an operator", "POST", "/operators", admin, do.add, NewOperator, True, secrets),
        Operation(
            "operators.change", "Change an operator", "PATCH", path, admin, do.change, OperatorChange, True, secrets
        ),
        Operation("operators.remove", "Remove an operator", "DELETE", path, admin, do.remove, OperatorPath, True),
        Operation(
            "operators.end_sessions",
            "End the sessions of an operator",
            "POST",
            f"{path}/end-sessions",
            admin,
            do.end_sessions,
            OperatorPath,
        ),
    ]


def _shown(operator: Operator) -> dict[str, Any]:
    return {
        "name": operator.name,
        "role": operator.role.name.lower(),
        "sites": operator.sites,
        "is_disabled": operator.is_disabled,
        "is_of_provider": operator.subject is not None,
        "created_at": rfc3339(operator.created_at),
        "used_at": None if operator.used_at is None else rfc3339(operator.used_at),
    }


def _found(was_there: bool) -> None:
    if not was_there:
        raise RequestRefused("There is no such operator.", "unknown_operator", 404)


def _not_oneself(call: Call, name: str) -> None:
    """Nobody locks himself out, so that one administrator always stays."""
    if name == call.caller.name:
        raise RequestRefused("name: expected another operator than you.", "oneself", 409)
