"""The size of a run, within bounds that nothing passes. Plain values."""

from typing import Annotated

from msgspec import Meta, Struct

from app.errors import RequestRefused

MAX_DEVICES = 500
MAX_MESSAGES_OF_DEVICE = 10_000
#: Messages of a run, and their deliveries: each message goes to each device.
MAX_MESSAGES = 30_000
MAX_DELIVERIES = 500_000
MAX_SECONDS = 120
MAX_DESCRIPTION = 200
MAX_SITE_CHARACTERS = 256
#: Simulated users of a messenger.
MAX_CHAT_USERS = 50

Devices = Annotated[int, Meta(ge=1, le=MAX_DEVICES)]
Messages = Annotated[int, Meta(ge=1, le=MAX_MESSAGES_OF_DEVICE)]
Seconds = Annotated[int, Meta(ge=1, le=MAX_SECONDS)]
SiteName = Annotated[str, Meta(max_length=MAX_SITE_CHARACTERS, pattern=r"^[^\x00]*\Z")]
RoomId = Annotated[int, Meta(ge=0, le=2**53)]
Description = Annotated[str, Meta(max_length=MAX_DESCRIPTION, pattern=r"^[^\x00]*\Z")]


class LoadPlan(Struct, frozen=True, kw_only=True):
    """One run: so many devices, each of which sends so many messages to all of them. Lives as long as the run."""

    devices: Devices = 10
    #: The messages of each device.
    messages: Messages = 10
    #: The run ends after this time, whatever is left.
    seconds: Seconds = 60
    #: The site with a messenger; empty: the server's own hidden site.
    site: SiteName = ""
    #: The room whose clients take part; 0: so many simulated devices.
    room: RoomId = 0

    @property
    def total(self) -> int:
        """The messages of all devices."""
        return self.devices * self.messages

    def check(self) -> None:
        """Raises RequestRefused for a run that is too large as a whole, or that cannot be."""
        if self.room and not self.site:
            raise RequestRefused("room: expected a site, too.")
        if self.room:
            # The run itself asks so many clients for so many messages.
            return
        if self.site and not 1 < self.devices <= MAX_CHAT_USERS:
            raise RequestRefused(f"devices: expected 2 to {MAX_CHAT_USERS} users of a messenger, got {self.devices}")
        if self.total > MAX_MESSAGES or self.total * self.devices > MAX_DELIVERIES:
            raise RequestRefused(
                f"devices, messages: expected at most {MAX_MESSAGES} messages and {MAX_DELIVERIES} deliveries, "
                f"got {self.total} and {self.total * self.devices}",
                "too_large",
            )
