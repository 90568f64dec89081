"""What topics need of the tenants' backends."""

from typing import Protocol

from app.config.settings import Site


class BindDirectory(Protocol):
    """The tenant's backend that knows whose bind key it is."""

    async def fetch_user(self, site: Site, bind_key: str) -> object:
        """The id of the key's user, or None when the backend refuses the key. Raises AuthRefused when it gave no usable
        answer."""
