"""`python -m tests.support.hasty_node` is the command `recado` with a clock that runs fast for some devices of a
messenger: for `late...` the time to log in, for `renewed...` the life of a session."""

from __future__ import annotations

from typing import Any

from app.cli import main
from app.protocols.messenger.entrance import Entrance

#: A second of these devices has so many.
FASTER = 100


def hurry() -> None:
    """Shorten the deadlines of these devices."""
    schedule = Entrance._schedule

    def schedule_soon(entrance: Entrance, chatter: Any, act: Any, seconds: float) -> None:
        device, is_login = chatter.device_id, act == entrance._close_late
        is_hasty = device.startswith("late" if is_login else "renewed")
        schedule(entrance, chatter, act, seconds / FASTER if is_hasty else seconds)

    setattr(Entrance, "_schedule", schedule_soon)  # noqa: B010


if __name__ == "__main__":
    hurry()
    main()
