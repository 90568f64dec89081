"""The issuers of a site's tokens, from its section `jwt`. Knows the rules of the section, and reads no key."""

from collections.abc import Sequence

from app.config.mistakes import Mistakes
from app.config.section import Section
from app.config.settings import JwtIssuer

#: The issuers of one site.
MOST_ISSUERS = 8
#: The secrets, or the public keys, of one issuer: each may be tried for a token.
MOST_KEYS_OF_ISSUER = 5
_KINDS = {"secrets": "secret", "public_keys": "public_key", "jwks": "jwks"}
_LISTS = ("audience", "secrets", "public_keys")
_PEM = "-----BEGIN"


def read_issuers(given: Section | Sequence[Section], place: str) -> tuple[JwtIssuer, ...]:
    """The issuers in their order. Raises ConfigError with every mistake."""
    sections = [given] if isinstance(given, Section) else given
    mistakes = Mistakes()
    if len(sections) > MOST_ISSUERS:
        mistakes.add(f"{place}: expected at most {MOST_ISSUERS} issuers")
    found: dict[str, JwtIssuer] = {}
    for number, section in enumerate(sections[:MOST_ISSUERS]):
        at = place if isinstance(given, Section) else f"{place}[{number}]"
        issuer = _read(section, at, mistakes)
        if issuer is not None and issuer.issuer in found:
            mistakes.add(f"{at}.issuer: expected another one, {issuer.issuer!r} stands twice")
        elif issuer is not None:
            found[issuer.issuer] = issuer
    mistakes.raise_any()
    return tuple(found.values())


def _read(section: Section, place: str, mistakes: Mistakes) -> JwtIssuer | None:
    given = section.given()
    if "issuer" not in given:
        mistakes.add(f"{place}.issuer: is missing, expected the text of the claim `iss`")
    kinds = [key for name, key in _KINDS.items() if given.get(name)]
    if len(kinds) != 1:
        found = f", got {' and '.join(kinds)}" if kinds else ""
        mistakes.add(f"{place}: expected one of secret, public_key and jwks{found}")
    for name in _LISTS:
        value = given.get(name, ())
        given[name] = values = (value,) if isinstance(value, str) else tuple(value)
        if len(values) > MOST_KEYS_OF_ISSUER:
            mistakes.add(f"{place}.{_KINDS.get(name, name)}: expected at most {MOST_KEYS_OF_ISSUER}")
    if any(_PEM in secret for secret in given["secrets"]):
        # With a public key for a secret, everybody who knows that key could sign.
        mistakes.add(f"{place}.secret: expected a secret, a key in PEM is a public_key")
    return JwtIssuer(**given) if "issuer" in given else None
