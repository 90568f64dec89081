"""One connection of the messenger, as those who handle its events see it. No I/O."""

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from app.config.settings import Site
from app.protocols.messenger.bounds import USER_PREFIX
from app.protocols.messenger.sync_measure import SyncMeasure


class ChatUser(Struct, frozen=True, kw_only=True):
    """A user, without its keys."""

    id: int
    login: str
    name: str
    sign: str
    icon: str
    is_admin: bool
    is_disabled: bool
    must_change: bool
    #: The id at the site's backend; None: it has none.
    external: str | None = None

    @property
    def room(self) -> str:
        """The user's room in the core."""
        return f"{USER_PREFIX}{self.id if self.external is None else self.external}"

    @property
    def shown(self) -> dict[str, Any]:
        """The user as clients see it."""
        return {
            "id": self.id,
            "login": self.login,
            "name": self.name,
            "sign": self.sign,
            "icon": self.icon,
            "admin": self.is_admin,
            "disabled": self.is_disabled,
        }


class ClientApp(Struct, frozen=True):
    """The program of a client, as it tells."""

    name: str
    reference: str = ""
    version: str = ""


class ClientDevice(Struct, frozen=True):
    """The machine of a client, as it tells."""

    os: str = ""
    os_version: str = ""
    model: str = ""
    memory: int | None = None
    cores: int | None = None


class CallerLink(Protocol):
    """The writing end of a connection."""

    @property
    def log_name(self) -> str:
        """The connection in log lines."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""

    def send_event(self, event: str, args: Sequence[Any]) -> None:
        """Writes an event that is kept nowhere."""


class ChatCaller:
    """The client of one connection. Lives as long as the connection; without a user nobody knows yet who it is."""

    def __init__(self, site: Site, link: CallerLink, address: str, device: str) -> None:
        self.site = site
        self.link = link
        self.address = address
        #: The deviceId.
        self.device = device
        self.app: ClientApp | None = None
        self.machine = ClientDevice()
        self.user: ChatUser | None = None
        #: The rows of its device and of its program; 0: none yet.
        self.device_id = 0
        self.app_id: int | None = None
        #: SHA-256 of its session's token.
        self.session = b""
        self.measure = SyncMeasure()

    @property
    def me(self) -> ChatUser:
        """The user, for events that only users may send."""
        assert self.user is not None, "the handler's standing asks for a user"
        return self.user

    def __repr__(self) -> str:
        return f"ChatCaller({self.site.name!r}, {self.link.log_name})"
