"""Sessions of operators and failed logins, in Redis, where every node finds them; keys: `app/store/keys.py`.

A session's key is the digest of the value in the cookie: a copy of Redis logs nobody in.
"""

import secrets

import msgspec
from msgspec import structs

from app.clock import now_ms
from app.console.session import FAILURE_SECONDS, IDLE_SECONDS, MAX_ADDRESS_FAILURES, MAX_FAILURES, Session
from app.digests import digest
from app.redis.client import Commands

_VALUE_BYTES = 32
_MOST_VALUE_CHARACTERS = 64


class RedisSessions:
    """Adapter of `SessionStore`. Lives as long as the node."""

    def __init__(self, redis: Commands) -> None:
        self._redis = redis

    async def begin(self, operator_id: int, version: int, confirmed_ms: int | None = None) -> tuple[str, Session]:
        """Begins a session; see `SessionStore`."""
        value, now = secrets.token_urlsafe(_VALUE_BYTES), now_ms()
        confirmed_ms = now if confirmed_ms is None else confirmed_ms
        session = Session(operator_id, version, secrets.token_urlsafe(_VALUE_BYTES), now, confirmed_ms)
        await self._redis.command("SET", _session_key(value), _encode(session), "PX", IDLE_SECONDS * 1000)
        return value, session

    async def find(self, value: str, *, is_request: bool = True) -> Session | None:
        """The session of a cookie; None: it has none, or an old one. With `is_request` the idle time begins again."""
        if not value or len(value) > _MOST_VALUE_CHARACTERS:
            return None
        key = _session_key(value)
        words = ("GETEX", key, "PX", IDLE_SECONDS * 1000) if is_request else ("GET", key)
        kept = await self._redis.command(*words)
        session = msgspec.json.decode(kept, type=Session) if kept else None
        return None if session is None or session.is_over else session

    async def confirm(self, value: str, session: Session) -> Session:
        """Notes that the password was given again."""
        confirmed = structs.replace(session, confirmed_ms=now_ms())
        await self._replace(value, confirmed)
        return confirmed

    async def note(self, value: str, session: Session, notice: str) -> None:
        """Keeps a line for the next page; "" takes it away."""
        await self._replace(value, structs.replace(session, notice=notice))

    async def end(self, value: str) -> None:
        """Ends a session."""
        await self._redis.command("DEL", _session_key(value))

    async def _replace(self, value: str, session: Session) -> None:
        # XX: a session that was ended meanwhile stays ended.
        await self._redis.command("SET", _session_key(value), _encode(session), "XX", "KEEPTTL")

    async def count_try(self, name: str, address: str) -> tuple[int, int]:
        """Counts a login; see `SessionStore`."""
        of_address = await self._count(_failures_key(address), MAX_ADDRESS_FAILURES)
        if of_address > MAX_ADDRESS_FAILURES:
            # A stranger who is refused in any case leaves no further keys behind, whatever names he makes up.
            return 0, of_address
        return await self._count(_failures_key(f"{address} {name}"), MAX_FAILURES), of_address

    async def forget_tries(self, name: str, address: str) -> None:
        """A login was right; see `SessionStore`."""
        await self._redis.command("DEL", _failures_key(f"{address} {name}"))
        of_address = _failures_key(address)
        await self._redis.command("DECR", of_address)
        await self._redis.command("EXPIRE", of_address, FAILURE_SECONDS)

    async def take_once(self, mark: str) -> bool:
        """Notes a mark of a login at a provider; see `SessionStore`."""
        key = f"recado:console:oidc:{digest(mark).hex()}"
        return bool(await self._redis.command("SET", key, "1", "NX", "EX", FAILURE_SECONDS))

    async def _count(self, key: str, most: int) -> int:
        tries = int(await self._redis.command("INCR", key))
        if tries <= most:
            # A try while it is blocked does not make the block longer.
            await self._redis.command("EXPIRE", key, FAILURE_SECONDS)
        return tries


def _session_key(value: str) -> str:
    return f"recado:console:session:{digest(value).hex()}"


def _failures_key(words: str) -> str:
    return f"recado:console:failures:{digest(words).hex()}"


def _encode(session: Session) -> bytes:
    return msgspec.json.encode(session)
