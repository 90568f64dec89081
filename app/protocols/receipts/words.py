"""The reasons in answers, in words. Pure: facts in, text out."""

from app.clock import rfc3339
from app.config.settings import Site
from app.protocols.receipts.ports import DeviceFacts

#: A message that is younger may be on its way to a connection.
_ON_ITS_WAY_MS = 1_000


def away_since_ms(site: Site, device: DeviceFacts) -> int | None:
    """When a device that is away has left, by the time at which it is forgotten; None where it never is."""
    if not device.deadline_ms or not site.device_ttl_seconds:
        return None
    return device.deadline_ms - site.device_ttl_seconds * 1000


def away_text(site: Site, device: DeviceFacts) -> str:
    """Since when a device is away."""
    since = away_since_ms(site, device)
    return "away" if since is None else f"away since {rfc3339(since)}"


def waiting_reason(site: Site, device: DeviceFacts | None, age_ms: int, *, is_known_unwritten: bool) -> str:
    """Why a message that no connection has got is waiting. `is_known_unwritten`: the journal says so; without it only
    the ends of connections tell what was written."""
    if device is None:
        return "device not known any more"
    if not device.nodes:
        return away_text(site, device)
    if not is_known_unwritten:
        return "connected, not acknowledged yet"
    if age_ms < _ON_ITS_WAY_MS:
        return "on its way"
    return "replaying: older messages of its queue come first"


def written_reason(site: Site, device: DeviceFacts | None) -> str:
    """Why a message that is on the wire has no ack."""
    if device is None:
        return "device not known any more"
    return "not acknowledged yet" if device.nodes else away_text(site, device)
