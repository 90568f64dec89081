"""The port of topics to the tenants' backends."""

from typing import Protocol

from app.config.settings import Site


class BindDirectory(Protocol):
    """The tenant's backend that knows the owner of a bind key."""

    async def fetch_user(self, site: Site, bind_key: str) -> object:
        """The id of the key's user, or None when the backend refuses the key. Raises AuthRefused when the backend gives
        no usable answer."""
