"""The rooms of the hidden site's clients: no backend is asked for them."""

from app.config.settings import Site
from app.digests import digest, is_same_secret
from app.errors import AuthRefused
from app.protocols.sites.ports import RoomDirectory


class OwnRooms:
    """The port RoomDirectory for all sites. Lives as long as the directory behind it."""

    def __init__(self, directory: RoomDirectory) -> None:
        self._directory = directory

    async def fetch_rooms(self, site: Site, token: str | None, meta: str | None) -> list[str]:
        """The rooms as the site's backend names them; see `RoomDirectory`. A client of the hidden site shows its key
        and has one room, its user's own. To others the site does not exist."""
        if not site.is_hidden:
            return await self._directory.fetch_rooms(site, token, meta)
        if not (meta and is_same_secret(token or "", digest(site.api_key))):
            raise AuthRefused("Invalid namespace")
        return [f"{site.user_room_prefix}{meta}"]
