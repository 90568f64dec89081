"""DELETE /tickets through its route, on a real Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from structlog.testing import capture_logs

from app.errors import RequestRefused, TicketRefused
from app.observe.counts import Counts
from app.protocols.operations import Actor, Call, Role
from app.protocols.site_keys import INVALID, MISSING, ApiKeys
from app.protocols.sites.revocation import (
    NO_TICKETS,
    Revocation,
    RevocationInputs,
    revocation_routes,
    ticket_operations,
)
from app.protocols.sites.settings import ResumeTicket
from app.protocols.sites.tickets import Credentials, new_claims
from tests.support.store import StoreNode, make_site
from tests.support.valkey import Valkey

KEY = "54321-secret"
SITE = make_site("shop", api_key=KEY, resume_ticket=ResumeTicket())
PLAIN = make_site("plain", api_key=KEY)


@pytest.fixture
async def node(valkey: Valkey) -> AsyncIterator[StoreNode]:
    """One node."""
    node = await StoreNode.start(valkey, [SITE, PLAIN])
    yield node
    await node.close()


@pytest.fixture
async def client(node: StoreNode) -> AsyncIterator[AsyncClient]:
    """A backend that calls the route."""
    sites = {"shop": SITE, "plain": PLAIN}
    routes = revocation_routes(sites, ApiKeys(sites, Counts()), Revocation(node.tickets), node.counts.records)
    async with AsyncClient(transport=ASGITransport(Starlette(routes=routes)), base_url="http://test") as client:
        yield client


async def counts(node: StoreNode, *tickets: str) -> list[bool]:
    """Which of the tickets are valid."""
    found = []
    for ticket in tickets:
        try:
            node.tickets.redeem(SITE, Credentials("t", ticket=ticket), await node.tickets.look_up(SITE, ticket))
        except TicketRefused as refusal:
            found.append(refusal.result != "revoked")
        else:
            found.append(True)
    return found


async def given(node: StoreNode, room: str) -> str:
    """A ticket of a user in the room."""
    claims = new_claims(SITE, Credentials("t"), [room], await node.tickets.look_up(SITE, None))
    return node.tickets.issue(SITE, claims) or ""


async def test_rooms_and_all(client: AsyncClient, node: StoreNode) -> None:
    """A revocation covers tickets with a named room, one or several; without a room it covers all tickets of the
    site."""
    node.counts.records.is_kept = True
    tickets = [await given(node, room) for room in ("user_1", "user_2", "user_3", "user_4")]
    answer = await client.delete(f"/tickets?site=shop&apiKey={KEY}&room=user_1")
    assert (answer.status_code, answer.text) == (200, "OK")
    assert await counts(node, *tickets) == [False, True, True, True]
    query = {"site": "shop", "room": ["user_2", "User_3"]}
    assert (await client.delete("/tickets", params=query, headers={"x-api-key": KEY})).status_code == 200
    assert await counts(node, *tickets) == [False, False, False, True]
    bearer = {"authorization": f"Bearer {KEY}"}
    assert (await client.delete("/tickets?site=shop", headers=bearer)).status_code == 200
    assert await counts(node, *tickets) == [False] * 4
    rows = node.counts.records.take()["shop", "audit"]
    assert [msgspec.json.decode(row["detail"])["rooms"] for row in rows] == [["user_1"], ["user_2", "User_3"], []]


async def test_many_rooms(client: AsyncClient, node: StoreNode) -> None:
    """Every room of a long query counts, in whatever place the site and the key stand; more fields than the bound are
    refused, and nothing is revoked."""
    ticket = await given(node, "user_99")
    rooms = "&".join(f"room=user_{number}" for number in range(100))
    too_many = await client.delete(
        f"/tickets?{'room=user_99&' * 2_000}site=shop&apiKey={KEY}", headers={"x-api-key": KEY}
    )
    assert too_many.status_code == 400
    assert await counts(node, ticket) == [True]
    assert (await client.delete(f"/tickets?{rooms}&site=shop&apiKey={KEY}")).status_code == 200
    assert await counts(node, ticket) == [False]


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("", 400, MISSING),
        ("site=shop", 400, MISSING),
        (f"apiKey={KEY}", 400, MISSING),
        ("site=shop&apiKey=wrong", 401, INVALID),
        (f"site=unknown&apiKey={KEY}", 401, INVALID),
        (f"site=plain&apiKey={KEY}", 400, NO_TICKETS),
        (f"site=shop&apiKey={KEY}&room=", 400, "room: expected a room, or no `room` for all of the site."),
    ],
)
async def test_mistakes(client: AsyncClient, node: StoreNode, query: str, status: int, text: str) -> None:
    """The answer names each mistake, and nothing is revoked."""
    ticket = await given(node, "user_1")
    answer = await client.delete(f"/tickets?{query}")
    assert (answer.status_code, answer.text) == (status, text)
    assert await counts(node, ticket) == [True]


async def test_other_methods(client: AsyncClient) -> None:
    """Another method gets 405 with the allowed one."""
    answer = await client.post(f"/tickets?site=shop&apiKey={KEY}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE")


async def test_redis_away(client: AsyncClient, node: StoreNode) -> None:
    """While Redis is away the answer is 503 with Retry-After. The log gets a line, and no line has a key."""
    await node.redis.close()
    with capture_logs() as lines:
        answer = await client.delete(f"/tickets?site=shop&apiKey={KEY}")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert [line["event"] for line in lines] == ["tickets not revoked"]
    assert KEY not in str(lines)


async def test_an_operator_revokes(node: StoreNode) -> None:
    """An operator does the same by an operation; a site without tickets is refused."""
    (operation,) = ticket_operations(Revocation(node.tickets))
    mine, other = await given(node, "user_1"), await given(node, "user_2")
    caller = Actor("ana", Role.OPERATOR)
    await operation.run(Call(caller, RevocationInputs(rooms=("user_1",)), SITE))
    assert await counts(node, mine, other) == [False, True]
    await operation.run(Call(caller, RevocationInputs(), SITE))
    assert await counts(node, mine, other) == [False, False]
    with pytest.raises(RequestRefused, match="no resume tickets"):
        await operation.run(Call(caller, RevocationInputs(), PLAIN))
