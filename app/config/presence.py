"""The setting of the key `presence` of a site."""

from app.config.section import Section
from app.config.settings import PresenceSettings


def read_presence(block: Section | bool | None) -> dict[str, PresenceSettings | None]:
    """The setting: `true` has every default, and `false` is as if it was not given."""
    if isinstance(block, Section):
        return {"presence": PresenceSettings(**block.given())}
    return {"presence": PresenceSettings() if block else None}
