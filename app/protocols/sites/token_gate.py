"""The check of tokens without a request to authUrl: finds the issuer and its keys, and tries the signature.

The claims are judged in `tokens.py`, keys are kept in `token_keys.py`; this module asks for them and counts.
"""

from collections.abc import Callable, Sequence

from app.clock import now_ms
from app.config.settings import JwtIssuer, Site
from app.errors import AuthRefused
from app.observe.counts import Counts
from app.protocols.sites.figures import SitesCounts
from app.protocols.sites.paced_work import PacedWork
from app.protocols.sites.ports import KeySource
from app.protocols.sites.token_keys import OF_SETS, KeySet, TokenKey, configured_keys
from app.protocols.sites.tokens import ReadToken, TokenIdentity, TokenRefused, judge, read_token

#: Signatures that are tried in one turn of the event loop.
MOST_CHECKS_A_TURN = 16
NO_KEYS = "Auth error: the keys of the token's issuer are not available, try again later"


class TokenGate:
    """The check for all sites on one node. Lives as long as the node."""

    def __init__(self, sets: KeySource, counts: Counts | None = None, clock: Callable[[], int] = now_ms) -> None:
        self._sets = sets
        self._counts = counts or Counts()
        self.clock = clock
        self._pace = PacedWork(MOST_CHECKS_A_TURN)
        #: The keys in the settings of a site, which they are valid for.
        self._configured: dict[str, tuple[tuple[JwtIssuer, ...], dict[str, list[TokenKey]]]] = {}

    async def identify(self, site: Site, token: str | None) -> TokenIdentity | None:
        """The client that a token names; None: the token is of no issuer of the site. Raises TokenRefused, and
        AuthRefused when the keys of the issuer cannot be had. May be cancelled."""
        read = read_token(token) if token and site.jwt else None
        issuer = None if read is None else next((one for one in site.jwt if one.issuer == read.issuer), None)
        if read is None or issuer is None:
            return None
        results = self._counts.of(site.name).part(SitesCounts).tokens
        try:
            # The claims come first, which cost nothing: a token of yesterday needs no check of its signature.
            identity = judge(site, issuer, read.claims, self.clock())
            await self._verify(site, issuer, read)
        except TokenRefused as refusal:
            results[refusal.result] += 1
            raise
        except AuthRefused:
            results["no keys"] += 1
            raise
        results["accepted"] += 1
        return identity

    def forget(self, site: str) -> None:
        """Drops the keys of a site."""
        self._configured.pop(site, None)

    async def _verify(self, site: Site, issuer: JwtIssuer, read: ReadToken) -> None:
        if read.header.crit is not None:
            raise TokenRefused("the token has an extension (crit) that is not known here")
        if issuer.jwks is None:
            is_valid = await self._is_signed_by(self._keys_of(site, issuer), read)
        else:
            is_valid = await self._is_signed_by_set(site, issuer.jwks, read)
        if not is_valid:
            raise TokenRefused("no key of the issuer has made the signature of the token")

    async def _is_signed_by(self, keys: Sequence[TokenKey], read: ReadToken) -> bool:
        for key in keys:
            if read.header.alg in key.algorithms:
                await self._pace.turn()
                if key.verifies(read.header.alg, read.signed, read.signature):
                    return True
        return False

    async def _is_signed_by_set(self, site: Site, url: str, read: ReadToken) -> bool:
        algorithm, key_id = read.header.alg, read.header.kid
        if algorithm not in OF_SETS:
            # No newer set could have the key, so none is read.
            return False
        keys = await self._set(site, url, lambda keys: bool(keys.find(algorithm, key_id)))
        if await self._is_signed_by(keys.find(algorithm, key_id), read):
            return True
        if key_id is not None:
            return False
        # A token that names no key may be signed by one that is not in the set yet.
        newer = await self._set(site, url, lambda found: found is not keys)
        return newer is not keys and await self._is_signed_by(newer.find(algorithm, None), read)

    async def _set(self, site: Site, url: str, suffices: Callable[[KeySet], bool]) -> KeySet:
        keys = await self._sets.keys(site, url, suffices)
        if keys is None:
            raise AuthRefused(NO_KEYS)
        return keys

    def _keys_of(self, site: Site, issuer: JwtIssuer) -> list[TokenKey]:
        held = self._configured.get(site.name)
        if held is None or held[0] is not site.jwt:
            held = self._configured[site.name] = (site.jwt, {})
        keys = held[1].get(issuer.issuer)
        if keys is None:
            keys = held[1][issuer.issuer] = configured_keys(issuer)
        return keys
