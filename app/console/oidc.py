"""Logins at a provider of identities: authorization code with PKCE, state and nonce (OpenID Connect Core 1.0).

The browser keeps a login under way in a cookie of its own. A stranger who begins logins leaves nothing on the server.
"""

import asyncio
import hashlib
import hmac
import secrets
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, TypeAlias
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Struct

from app.backends.exchange import BackendError
from app.clock import now_ms
from app.config.settings import OidcSettings
from app.console.id_tokens import Expected, find_key, key_id_of, read_claims, refused
from app.errors import RequestRefused
from app.observe.counted_lines import CountedLines

#: Asks the provider: URL, form of a POST, name and secret. Raises BackendError.
AskProvider: TypeAlias = Callable[
    [str, Mapping[str, str] | None, tuple[str, str] | None], Awaitable[tuple[int, dict[str, Any]]]
]

CALLBACK = "/console/oidc/callback"
#: A login that takes longer begins again.
FLOW_SECONDS = 600
#: Logins that are being finished at a time on a node.
MAX_FINISHING = 8
#: The longest code, and the longest cookie.
MAX_CODE = 4_096
MAX_COOKIE = 2_048
#: How long the provider's own description counts, and how soon it is asked for again after a failure or for a key that
#: is not known.
_DESCRIPTION_SECONDS = 3_600.0
_AGAIN_SECONDS = 10.0
_RANDOM_BYTES = 32
#: How much the clock of the provider may be behind ours.
_BEHIND_MS = 30_000
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class Flow(Struct, frozen=True):
    """A login under way, as the browser's cookie has it. Its repr has no secret."""

    state: str
    nonce: str
    verifier: str
    back: str
    began_ms: int
    #: Whether an operator who is logged in proves again who he is.
    is_again: bool = False

    def __repr__(self) -> str:
        return "Flow()"


class _Provider(Struct, frozen=True):
    """A provider by its own description. Lives for an hour."""

    authorization_endpoint: str
    token_endpoint: str
    keys: list[dict[str, Any]]
    takes_basic: bool
    read_at: float


class OidcLogin:
    """The logins of one node. Lives as long as the node."""

    def __init__(self, settings: OidcSettings, ask: AskProvider, told: CountedLines) -> None:
        """`told` tells of a provider that does not answer as it should."""
        self.settings = settings
        self._ask = ask
        self._told = told
        self._known: _Provider | None = None
        self._failed_at = -_AGAIN_SECONDS
        self._reading = asyncio.Lock()
        self._finishing = 0

    @property
    def label(self) -> str:
        """The provider for people."""
        return urlsplit(self.settings.issuer or "").netloc

    async def begin(self, back: str, *, is_again: bool) -> tuple[str, Flow]:
        """Begins a login. Returns the provider's URL for the browser, and the login. Raises RequestRefused."""
        provider = await self._provider()
        state, nonce, verifier = (secrets.token_urlsafe(_RANDOM_BYTES) for _ in range(3))
        flow = Flow(state, nonce, verifier, back, now_ms(), is_again)
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self.settings.public_url + CALLBACK,
            "scope": " ".join(self.settings.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
        if is_again:
            query |= {"prompt": "login", "max_age": "0"}
        separator = "&" if "?" in provider.authorization_endpoint else "?"
        return f"{provider.authorization_endpoint}{separator}{urlencode(query)}", flow

    async def finish(self, flow: Flow, code: str) -> dict[str, Any]:
        """The claims of the person who has logged in. Raises RequestRefused."""
        if self._finishing >= MAX_FINISHING:
            raise RequestRefused("Too many logins are being checked, try again.", "busy", 503)
        self._finishing += 1
        try:
            token = await self._redeem(await self._provider(), flow, code)
            claims = read_claims(token, await self._key_of(token), self._expected(flow))
        finally:
            self._finishing -= 1
        if flow.is_again and proven_ms(claims) < flow.began_ms - _BEHIND_MS:
            raise refused("the provider has not asked you again")
        return claims

    def _expected(self, flow: Flow) -> Expected:
        return Expected(self.settings.issuer or "", self.settings.client_id, flow.nonce)

    async def _redeem(self, provider: _Provider, flow: Flow, code: str) -> str:
        """The ID token for a code."""
        id, secret = self.settings.client_id, self.settings.client_secret
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.settings.public_url + CALLBACK,
            "code_verifier": flow.verifier,
        }
        basic: tuple[str, str] | None = None
        if secret is not None and provider.takes_basic:
            basic = (id, secret)
        else:
            form |= {"client_id": id} | ({} if secret is None else {"client_secret": secret})
        status, answer = await self._asked(provider.token_endpoint, form, basic)
        token = answer.get("id_token")
        if status != 200 or not isinstance(token, str):
            self._told.tell(reason="code refused", shown={"status": status, "error": str(answer.get("error"))[:100]})
            raise RequestRefused("The provider has refused this login: begin it again.", "login_refused", 401)
        return token

    async def _key_of(self, token: str) -> Mapping[str, Any]:
        name = key_id_of(token)
        known = await self._provider()
        key = find_key(known.keys, name)
        if key is None and monotonic() - known.read_at > _AGAIN_SECONDS:
            # The provider may have new keys.
            self._known = None
            key = find_key((await self._provider()).keys, name)
        if key is None:
            raise refused("its key is not known")
        return key

    async def _provider(self) -> _Provider:
        async with self._reading:
            if self._known is not None and monotonic() - self._known.read_at < _DESCRIPTION_SECONDS:
                return self._known
            if monotonic() - self._failed_at < _AGAIN_SECONDS:
                raise _away()
            try:
                self._known = await self._read()
            except RequestRefused:
                self._failed_at = monotonic()
                raise
            return self._known

    async def _read(self) -> _Provider:
        issuer = self.settings.issuer or ""
        url = issuer.rstrip("/") + "/.well-known/openid-configuration"
        status, found = await self._asked(url, None, None)
        endpoints = [found.get(name) for name in _ENDPOINTS]
        if status != 200 or found.get("issuer") != issuer or not all(map(_is_safe, endpoints)):
            self._told.tell(reason="description not usable", shown={"status": status, "issuer": issuer})
            raise _away()
        authorize, redeem, keys_at = map(str, endpoints)
        _, held = await self._asked(keys_at, None, None)
        keys = held.get("keys")
        if not isinstance(keys, list):
            self._told.tell(reason="keys not usable", shown={"issuer": issuer})
            raise _away()
        methods = found.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        takes_basic = isinstance(methods, list) and "client_secret_basic" in methods
        objects = [key for key in keys if isinstance(key, dict)]
        return _Provider(authorize, redeem, objects, takes_basic, monotonic())

    async def _asked(
        self, url: str, form: Mapping[str, str] | None, basic: tuple[str, str] | None
    ) -> tuple[int, dict[str, Any]]:
        try:
            return await self._ask(url, form, basic)
        except BackendError as error:
            self._told.tell(reason="no answer", shown={"cause": str(error)})
            raise _away() from None


def proven_ms(claims: Mapping[str, Any]) -> int:
    """When the provider has asked the person for its proof; 0: it does not say."""
    at = claims.get("auth_time")
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 < at < 1e11:
        return 0
    return min(round(at * 1000), now_ms())


def write_flow(flow: Flow) -> str:
    """A login as the value of a cookie."""
    # Without the padding: a cookie with it would be quoted.
    return urlsafe_b64encode(msgspec.json.encode(flow)).rstrip(b"=").decode()


def read_flow(value: str, state: str) -> Flow:
    """The login of a cookie and of the state that came back with it. Raises RequestRefused."""
    try:
        flow = msgspec.json.decode(b64decode(value[:MAX_COOKIE] + "==", b"-_"), type=Flow)
    except (ValueError, msgspec.MsgspecError, UnicodeError, RecursionError):
        raise _expired() from None
    is_same = hmac.compare_digest(flow.state.encode("utf-8", "replace"), state.encode("utf-8", "replace"))
    if not flow.state or not is_same or not 0 <= now_ms() - flow.began_ms < FLOW_SECONDS * 1000:
        raise _expired()
    return flow


def is_issuer(settings: OidcSettings, named: str | None) -> bool:
    """Whether an answer of the provider that names its issuer is of the right one (RFC 9207)."""
    return named is None or named == settings.issuer


def _challenge(verifier: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _is_safe(url: object) -> bool:
    """Whether a URL of the provider may be used: over TLS, or on this machine."""
    if not isinstance(url, str) or not url.isprintable():
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1"))


def _expired() -> RequestRefused:
    return RequestRefused("This login has expired, or began in another browser: begin it again.", "login_expired", 403)


def _away() -> RequestRefused:
    return RequestRefused("The provider of identities does not answer as it should, try again.", "provider_away", 503)
