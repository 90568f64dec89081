"""One question to a site's authUrl that an operator asks, beside those of clients: it counts nowhere, and waits for no
turn."""

from time import monotonic

from msgspec import Struct

from app.backends.room_directory import HttpRoomDirectory
from app.config.settings import Site
from app.errors import AuthRefused


class AuthTrial(Struct, frozen=True):
    """The answer. Lives as long as it is shown."""

    #: None: the client would be refused.
    rooms: list[str] | None
    #: The words that the client would get; "" when it is admitted.
    refusal: str
    ms: float


async def try_auth(site: Site, token: str | None, meta: str | None, timeout_seconds: float) -> AuthTrial:
    """Asks as for a client with these credentials."""
    directory = HttpRoomDirectory(timeout_seconds)
    began_at = monotonic()
    try:
        rooms, refusal = await directory.fetch_rooms(site, token, meta), ""
    except AuthRefused as error:
        return AuthTrial(None, str(error), _ms_since(began_at))
    finally:
        await directory.aclose()
    return AuthTrial(rooms, refusal, _ms_since(began_at))


def _ms_since(began_at: float) -> float:
    return round((monotonic() - began_at) * 1000, 1)
