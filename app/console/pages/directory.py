"""The pages of the users and rooms of a messenger. Their operations are those of the messenger."""

from app.console.page import ConsolePage

#: The registrations that wait stand on the page of the users.
USERS = ConsolePage(
    "users", "Users", "users.list", also={"registrations": "registrations.list"}, live_seconds=5.0, is_shared=True
)
USER = ConsolePage(
    "user",
    "User",
    "users.show",
    also={"changes": "changes.list"},
    live_seconds=5.0,
    is_shared=True,
    is_in_menu=False,
)
ROOMS = ConsolePage("rooms", "Rooms", "rooms.list", live_seconds=5.0, is_shared=True)
ROOM = ConsolePage(
    "room",
    "Room",
    "rooms.show",
    also={"changes": "changes.list"},
    live_seconds=5.0,
    is_shared=True,
    is_in_menu=False,
)
REGISTRATIONS = ConsolePage(
    "registrations", "Registrations", "registrations.list", live_seconds=5.0, is_shared=True, is_in_menu=False
)
CHANGES = ConsolePage(
    "changes", "History of the directory", "changes.list", live_seconds=5.0, is_shared=True, is_in_menu=False
)
