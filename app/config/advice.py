"""Warnings about settings that are valid and yet hardly meant: check-config prints them, the server logs them."""

import re
from collections.abc import Iterator, Sequence

from app.config.section import SectionSpec
from app.config.settings import Config, Site, SiteLimits

_MIN_KEY_CHARACTERS = 16
#: The output of the weakest algorithm for secrets (RFC 7518, 3.2).
_MIN_SECRET_BYTES = 32
_MAKE_ONE = "`recado keys new` makes a key"
#: Words of examples and of keys that somebody meant to change.
_PLACEHOLDER = re.compile(r"put-|your-|change-?me|example|placeholder|secret|password|12345|54321", re.IGNORECASE)
#: A shorter time was probably meant in seconds.
_MIN_PING_MS = 1_000
#: A longer time was probably meant in milliseconds.
_LONG_WAIT_SECONDS = 60


def warnings_of(config: Config, sections: Sequence[SectionSpec]) -> list[str]:
    """One line for each doubt; no secret is in it."""
    return [
        *_of_server(config),
        *(f"{site.name}.{line}" for site in config.sites.values() for line in _of(site, sections)),
    ]


def _of_server(config: Config) -> Iterator[str]:
    if not config.sites:
        yield "sites.yml: there is no site, so nobody can connect or send"
    for key, value in (("pingInterval", config.ping_interval_ms), ("pingTimeout", config.ping_timeout_ms)):
        if value < _MIN_PING_MS:
            yield f"io.{key}: {value} are milliseconds, was it meant in seconds?"
    for key, seconds in (
        ("auth_timeout", config.auth_timeout_seconds),
        ("redis_timeout", config.redis_timeout_seconds),
    ):
        if seconds > _LONG_WAIT_SECONDS:
            yield f"{key}: {seconds:g} are seconds, was it meant in milliseconds?"


def _of(site: Site, sections: Sequence[SectionSpec]) -> Iterator[str]:
    if any(map(_PLACEHOLDER.search, site.keys)):
        yield f"apiKey: looks like a placeholder, {_MAKE_ONE}"
    elif min(map(len, site.keys)) < _MIN_KEY_CHARACTERS:
        yield f"apiKey: has fewer than {_MIN_KEY_CHARACTERS} characters and can be guessed, {_MAKE_ONE}"
    yield from _of_tokens(site)
    if site.limits.sends_burst and not site.limits.sends_per_second:
        yield "limits.sends_burst: has no effect without limits.sends_per_second"
    if not site.has_queues:
        yield from (f"{key}: has no effect without userRoomPrefix" for key in _keys_of_users(site))
    if site.binds and not any(section.is_bindable and site.section(section.settings) for section in sections):
        names = " or ".join(section.key for section in sections if section.is_bindable)
        yield f"binds: has no effect without {names}"


def _of_tokens(site: Site) -> Iterator[str]:
    for issuer in site.jwt:
        at = f"jwt: issuer {issuer.issuer!r}"
        if any(map(_PLACEHOLDER.search, issuer.secrets)):
            yield f"{at}: secret: looks like a placeholder, {_MAKE_ONE}"
        elif any(len(secret.encode("utf-8", "replace")) < _MIN_SECRET_BYTES for secret in issuer.secrets):
            yield f"{at}: secret: has fewer than {_MIN_SECRET_BYTES} bytes and can be guessed, {_MAKE_ONE}"
        if issuer.jwks is not None and not issuer.audience:
            yield f"{at}: audience: without it a token that the issuer makes for another application lets in"
        if issuer.jwks is not None and issuer.jwks.startswith("http://"):
            yield f"{at}: jwks: without https:// anybody on the way can put in keys of his own"


def _keys_of_users(site: Site) -> Iterator[str]:
    """The keys given in the site that concern users, whom only userRoomPrefix tells apart."""
    if site.update_user_url:
        yield "updateUserUrl"
    if site.public_channel:
        yield "publicChannel"
    if site.limits.connections_per_user:
        yield "limits.connections_per_user"
    if site.webhook.events:
        yield "webhook"
    if site.limits.devices_per_user not in (0, SiteLimits().devices_per_user):
        yield "limits.devices_per_user"
