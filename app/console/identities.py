"""The operator that a provider's claims describe: a name, a role, sites. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from app.config.keys import OPERATOR_NAME
from app.config.settings import OidcSettings
from app.console.operators import ROLES, Identity
from app.errors import RequestRefused
from app.protocols.operations import MAX_TEXT

#: The values of one claim that are looked at.
MAX_VALUES = 1_000
#: The value of the sites' claim that means every site.
_EVERY = "*"


def identity_of(settings: OidcSettings, claims: Mapping[str, Any]) -> Identity:
    """The identity. Raises RequestRefused when a claim is missing, or names no role."""
    name = _claim(claims, settings.name_claim)
    if not isinstance(name, str) or not re.match(OPERATOR_NAME, name):
        raise _not_let_in(f"the claim {settings.name_claim} is no name of an operator")
    if settings.name_claim == "email" and claims.get("email_verified") is not True:
        raise _not_let_in("the address is not verified")
    values = _values(claims, settings.role_claim) if settings.role_claim is not None else ()
    named = [settings.roles[value] for value in values if value in settings.roles]
    roles = [ROLES[one] for one in (*named, settings.default_role) if one is not None]
    if not roles:
        raise _not_let_in("no role is for you here")
    return Identity(f"{settings.issuer} {claims['sub']}", name, max(roles), _sites(settings, claims))


def _sites(settings: OidcSettings, claims: Mapping[str, Any]) -> tuple[str, ...] | None:
    if settings.sites_claim is None:
        return None
    sites = _values(claims, settings.sites_claim)
    return None if _EVERY in sites else tuple(dict.fromkeys(sites))


def _values(claims: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The texts of a claim: one, or a list of them."""
    value = _claim(claims, name)
    values = value if isinstance(value, list) else [value]
    return tuple(one for one in values[:MAX_VALUES] if isinstance(one, str) and 0 < len(one) <= MAX_TEXT)


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or by the way into it: `realm_access.roles`."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _not_let_in(reason: str) -> RequestRefused:
    return RequestRefused(f"You are not let in: {reason}.", "not_let_in", 403)
