"""The page of an operator's own account: its tokens for the API, and its password."""

import secrets
from typing import Annotated, Any

from msgspec import Meta

from app.clock import rfc3339
from app.console.entry import TOKEN_PREFIX
from app.console.operators import Operator, OperatorStore, Token
from app.console.page import ConsolePage
from app.console.pages.operators import Password, no_password
from app.console.passwords import PasswordChecks
from app.digests import digest
from app.errors import RequestRefused
from app.protocols.operations import Call, Inputs, Operation, Role, Words

TOKENS = ConsolePage("tokens", "Your account", "tokens.list")

_TOKEN_BYTES = 32


class NewToken(Inputs, frozen=True, kw_only=True):
    """A new token."""

    name: Words


class TokenPath(Inputs, frozen=True, kw_only=True):
    """The number of a token."""

    id: Annotated[int, Meta(ge=1, le=2**53)]


class NewPassword(Inputs, frozen=True, kw_only=True):
    """A new password of one's own."""

    password: Password


class _Account:
    """The operations. Lives as long as the node."""

    def __init__(self, operators: OperatorStore, passwords: PasswordChecks) -> None:
        self._operators = operators
        self._passwords = passwords

    async def list(self, call: Call) -> dict[str, Any]:
        found = await self._operators.list_tokens((await self._own(call)).id)
        return {"items": [_shown(token) for token in found], "cursor": None}

    async def add(self, call: Call) -> dict[str, Any]:
        token = TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
        if not await self._operators.add_token((await self._own(call)).id, call.given.name, digest(token)):
            raise RequestRefused("There are too many tokens: remove one first.", "too_many_tokens", 409)
        return {"ok": True, "token": token}

    async def remove(self, call: Call) -> dict[str, Any]:
        if not await self._operators.remove_token((await self._own(call)).id, call.given.id):
            raise RequestRefused("You have no such token.", "unknown_token", 404)
        return {"ok": True}

    async def change_password(self, call: Call) -> dict[str, Any]:
        if (await self._own(call)).subject is not None:
            raise no_password()
        kept = await self._passwords.hash(call.given.password)
        await self._operators.change(call.caller.name, ends_sessions=True, password_hash=kept)
        return {"ok": True}

    async def _own(self, call: Call) -> Operator:
        operator = await self._operators.find(call.caller.name)
        if operator is None:
            raise RequestRefused("There is no such operator.", "unknown_operator", 404)
        return operator


def account_operations(operators: OperatorStore, passwords: PasswordChecks) -> list[Operation]:
    """Everything about one's own account."""
    do, viewer = _Account(operators, passwords), Role.VIEWER
    return [
        Operation("tokens.list", "List your tokens", "GET", "/tokens", viewer, do.list),
        Operation("tokens.add", "Make a token", "POST", "/tokens", viewer, do.add, NewToken, True, tells=True),
        Operation("tokens.remove", "Remove a token", "DELETE", "/tokens/{id}", viewer, do.remove, TokenPath),
        Operation(
            "account.password",
            "Change your password",
            "POST",
            "/account/password",
            viewer,
            do.change_password,
            NewPassword,
            True,
            frozenset(["password"]),
        ),
    ]


def _shown(token: Token) -> dict[str, Any]:
    used_at = None if token.used_at is None else rfc3339(token.used_at)
    return {"id": token.id, "name": token.name, "created_at": rfc3339(token.created_at), "used_at": used_at}
