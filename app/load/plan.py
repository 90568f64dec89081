"""The size of a run, within bounds that nothing passes. Plain values."""

from typing import Annotated

from msgspec import Meta, Struct

from app.errors import RequestRefused

MAX_DEVICES = 500
MAX_MESSAGES_OF_DEVICE = 1_000
#: Messages of a run, and their deliveries: each message goes to each device.
MAX_MESSAGES = 20_000
MAX_DELIVERIES = 500_000
MAX_SECONDS = 120
MAX_DESCRIPTION = 200

Devices = Annotated[int, Meta(ge=1, le=MAX_DEVICES)]
Messages = Annotated[int, Meta(ge=1, le=MAX_MESSAGES_OF_DEVICE)]
Seconds = Annotated[int, Meta(ge=1, le=MAX_SECONDS)]
Description = Annotated[str, Meta(max_length=MAX_DESCRIPTION, pattern=r"^[^\x00]*\Z")]


class LoadPlan(Struct, frozen=True, kw_only=True):
    """One run: so many devices, each of which sends so many messages to all of them. Lives as long as the run."""

    devices: Devices = 10
    #: The messages of each device.
    messages: Messages = 10
    #: The run ends after this time, whatever is left.
    seconds: Seconds = 60

    @property
    def total(self) -> int:
        """The messages of all devices."""
        return self.devices * self.messages

    def check(self) -> None:
        """Raises RequestRefused for a run that is too large as a whole."""
        if self.total > MAX_MESSAGES or self.total * self.devices > MAX_DELIVERIES:
            raise RequestRefused(
                f"devices, messages: expected at most {MAX_MESSAGES} messages and {MAX_DELIVERIES} deliveries, "
                f"got {self.total} and {self.total * self.devices}",
                "too_large",
            )
