"""The parts of a node that the operations on directories use."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from app.config.settings import Site
from app.protocols.messenger.directory.ports import EditsDirectory
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.operations.made_passwords import FirstPasswords


class OnlineUsers(Protocol):
    """The users who are online, for all nodes. Each method raises StoreUnavailable."""

    async def online(self, site: Site) -> set[int]:
        """All of them."""

    async def online_among(self, site: Site, users: Sequence[int]) -> set[int]:
        """The users among these who are online."""


class LoginBlocks(Protocol):
    """The blocks of logins behind failed ones. Each method raises StoreUnavailable."""

    async def seconds_left(self, site: Site, login: str) -> int:
        """The seconds for which a login is blocked; 0: it is not."""

    async def lift(self, site: Site, login: str) -> bool:
        """Takes the block away, with that of the address whose failures have made it; whether there was one."""


class DirectoryParts(Struct, frozen=True):
    """The parts. Lives as long as the node."""

    sql: ChatSql
    directory: EditsDirectory
    online: OnlineUsers
    blocks: LoginBlocks
    passwords: FirstPasswords
