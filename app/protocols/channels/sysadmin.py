"""The answer of /sysadmin: the channels of a site, and how many subscribers all nodes have."""

from app.config.settings import Site
from app.protocols.channels import messages
from app.protocols.channels.board import Board
from app.protocols.channels.channel_store import ChannelStore

#: The bounds of the list. The numbers beside it count everything.
MAX_NAMES = 10_000
MAX_NAMES_CHARACTERS = 1_000_000


class Sysadmin:
    """Reads the figures of sites. Lives as long as the node; keeps nothing of a request."""

    def __init__(self, boards: dict[str, Board], store: ChannelStore) -> None:
        """`boards` are those of this node by site."""
        self._boards = boards
        self._store = store

    def add(self, site: Site, board: Board) -> None:
        """Reports of one more site."""
        self._boards[site.name] = board

    async def report(self, site: Site) -> bytes:
        """The message for the site's operator. Raises StoreError."""
        part = await self._store.list_channels(site, 0)
        names = dict.fromkeys(part.names)
        while part.cursor and len(names) < MAX_NAMES and sum(map(len, names)) < MAX_NAMES_CHARACTERS:
            part = await self._store.list_channels(site, part.cursor)
            names.update(dict.fromkeys(part.names))
        # The number of this node is exact; that of each other node is the one that it has noted.
        clients = part.subscribers_elsewhere + len(self._boards[site.name].subscribers)
        return messages.sysadmin(list(names)[:MAX_NAMES], part.channels, clients)
