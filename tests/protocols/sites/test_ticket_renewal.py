"""Resume tickets of connected clients are renewed in time."""

from __future__ import annotations

import pytest

from app.protocols.sites import ticket_renewal
from tests.protocols.sites.door import Door, received
from tests.protocols.sites.test_admission import come_back, ticket_in
from tests.support.store import settled


async def test_a_connected_client_gets_new_tickets(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client gets its next ticket in an event before the old one expires, until it leaves."""
    monkeypatch.setattr(ticket_renewal, "_SOONEST", 0.0001)
    monkeypatch.setattr(ticket_renewal, "_LATEST", 0.0001)
    client = await door.client()
    await client.send(b'40/back,{"token":"t","deviceId":"d"}')
    await received(client, 2)
    renewed = (await received(client, 1))[0]
    assert renewed.startswith('42/back,["_resume_ticket","')
    await come_back(door, deviceId="d", ticket=ticket_in(renewed))
    assert len(door.directory.asked) == 1
    for session in list(door.server.engine.sessions.values()):
        session.close("transport close")
    assert len(door.application._renewals.wheel) == 0
    await settled(door.node)
