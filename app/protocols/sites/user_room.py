"""The user of a user room, as the tenant's backend knows it. Pure text in, text out."""


def user_id_of_room(prefix: str, room: str) -> str:
    """The `:id` of updateUserUrl: the part of the user room behind the prefix, up to the next `_`."""
    return room[len(prefix) :].split("_", 1)[0]
