"""What a resume ticket says, when it counts, and how it is made worthless."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import structs

from app.config.settings import Site
from app.errors import TicketRefused
from app.observe.counts import Counts
from app.protocols.sites.figures import SitesCounts
from app.protocols.sites.settings import ResumeTicket
from app.protocols.sites.tickets import MAX_TICKET_BYTES, Credentials, Tickets, TicketState, judge, new_claims, seal
from app.store.keys import prefix
from tests.support.store import StoreNode, make_site
from tests.support.valkey import Valkey

SITE = make_site(resume_ticket=ResumeTicket(ttl_seconds=300, max_age_seconds=3_600))
KEY = b"k" * 64
START_MS = 1_800_000_000_000
STATE = TicketState(START_MS, KEY, generation=3)
CREDENTIALS = Credentials("token", "meta", "device")
ROOMS = ["user_1", "Editors"]


def sealed(site: Site = SITE, credentials: Credentials = CREDENTIALS, state: TicketState = STATE, **claims: Any) -> str:
    """A ticket that counts for the credentials."""
    made = new_claims(site, credentials, ROOMS, state)
    ticket = seal(structs.replace(made, **{"expires_at_ms": START_MS + 300_000, **claims}), state.key)
    assert ticket is not None
    return ticket


def refusal(ticket: str, state: TicketState = STATE, site: Site = SITE, **credentials: Any) -> tuple[str, str]:
    """Why the ticket does not count: result and text."""
    with pytest.raises(TicketRefused) as caught:
        judge(site, structs.replace(CREDENTIALS, ticket=ticket, **credentials), state)
    return caught.value.result, str(caught.value)


def test_a_ticket_names_the_rooms() -> None:
    """For the token that it was given for, or without one."""
    for token in ("token", None, ""):
        claims = judge(SITE, structs.replace(CREDENTIALS, ticket=sealed(), token=token), STATE)
        assert claims.rooms == ROOMS


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"device_id": "other"}, "the resume ticket is of another site or device"),
        ({"device_id": ""}, "the resume ticket is of another site or device"),
        ({"site": make_site("other")}, "the resume ticket is of another site or device"),
        ({"token": "other"}, "the resume ticket is of another token"),
        ({"meta": "other"}, "the resume ticket is of another meta"),
        ({"meta": None}, "the resume ticket is of another meta"),
    ],
)
def test_a_foreign_ticket(changes: dict[str, Any], text: str) -> None:
    """It counts for its site, device, meta and token alone."""
    assert refusal(sealed(), **changes) == ("foreign", text)


def test_an_expired_ticket() -> None:
    """It counts until the moment that it names."""
    ticket = sealed()
    judge(SITE, structs.replace(CREDENTIALS, ticket=ticket), structs.replace(STATE, now_ms=START_MS + 299_999))
    late = structs.replace(STATE, now_ms=START_MS + 300_000)
    assert refusal(ticket, late) == ("expired", "the resume ticket has expired")


@pytest.mark.parametrize("changes", [{"generation": 4}, {"generation": 2}, {"revoked_at_ms": START_MS}])
def test_a_revoked_ticket(changes: dict[str, int]) -> None:
    """By the generation of all, or by a room at the moment when authUrl was asked or later."""
    assert refusal(sealed(), structs.replace(STATE, **changes)) == ("revoked", "the resume ticket was revoked")
    judge(SITE, structs.replace(CREDENTIALS, ticket=sealed()), structs.replace(STATE, revoked_at_ms=START_MS - 1))


def test_a_ticket_that_was_tampered_with() -> None:
    """Whatever is changed, and whoever signed it, it is refused with the same words."""
    ticket = sealed()
    content, _, signature = ticket.partition(".")
    grown = urlsafe_b64decode(content + "==").replace(b'"user_1"', b'"user_2"')
    forged = [
        f"{urlsafe_b64encode(grown).decode()}.{signature}",
        sealed(state=structs.replace(STATE, key=b"another key")),
        f"{content}.",
        f"{ticket}x",
        f"{ticket}=",
        f"{content}=.{signature}",
        content,
        f"{content}.{signature[:-8]}",
        f".{signature}",
        "",
        ".",
        "a",
        "ü.ü",
        "\ud800",
        "a" * 100_000,
        urlsafe_b64encode(b"[" * 4_000).decode(),
        f"{urlsafe_b64encode(b'{}').decode()}.{signature}",
    ]
    for text in forged:
        assert refusal(text) == ("invalid", "the resume ticket is not valid"), text


def test_a_ticket_shows_no_secret() -> None:
    """Its owner can read the rooms; of the token and the meta there is but a mark, different for every site's key."""
    content = urlsafe_b64decode(sealed().partition(".")[0] + "==")
    assert b"user_1" in content
    assert b'"token"' not in content
    assert b'"meta"' not in content
    assert sealed().partition(".")[0] != sealed(state=structs.replace(STATE, key=b"another key")).partition(".")[0]


def test_a_ticket_of_very_many_rooms_is_not_given() -> None:
    """It would not fit in a URL."""
    claims = new_claims(SITE, CREDENTIALS, [f"room_{number}" for number in range(1_000)], STATE)
    assert seal(claims, KEY) is None
    assert len(sealed()) < MAX_TICKET_BYTES / 5


# With the store


@pytest.fixture
async def nodes(valkey: Valkey) -> AsyncIterator[list[StoreNode]]:
    """Two of them, at a time of our own."""
    started = [await StoreNode.start(valkey, [SITE]) for _ in range(2)]
    for node in started:
        node.ticket_store.now_ms = START_MS
    yield started
    for node in started:
        await node.close()


async def given(tickets: Tickets) -> str:
    """A ticket for CREDENTIALS, as a connect gives it."""
    state = await tickets.look_up(SITE, None)
    ticket = tickets.issue(SITE, new_claims(SITE, CREDENTIALS, ROOMS, state))
    assert ticket is not None
    return ticket


async def result_of(tickets: Tickets, ticket: str) -> str:
    """What becomes of a ticket that is handed in."""
    try:
        tickets.redeem(SITE, structs.replace(CREDENTIALS, ticket=ticket), await tickets.look_up(SITE, ticket))
    except TicketRefused as refusal:
        return refusal.result
    return "accepted"


async def test_every_node_takes_every_nodes_tickets(nodes: list[StoreNode]) -> None:
    """The key is made once, by whoever needs it first, and shared."""
    tickets = [await given(node.tickets) for node in nodes]
    assert [await result_of(node.tickets, ticket) for node in nodes for ticket in tickets] == ["accepted"] * 4


async def test_revoking_all(nodes: list[StoreNode]) -> None:
    """On every node at once; tickets of afterwards count."""
    ticket = await given(nodes[0].tickets)
    await nodes[1].tickets.revoke(SITE, [])
    assert await result_of(nodes[0].tickets, ticket) == "revoked"
    assert await result_of(nodes[0].tickets, await given(nodes[1].tickets)) == "accepted"


@pytest.mark.parametrize("room", ["user_1", "editors", "EDITORS"])
async def test_revoking_by_room(nodes: list[StoreNode], room: str) -> None:
    """Those with the room, however it is spelt; others count, and those for which authUrl was asked later."""
    ticket = await given(nodes[0].tickets)
    await nodes[1].tickets.revoke(SITE, ["user_2"])
    assert await result_of(nodes[0].tickets, ticket) == "accepted"
    await nodes[1].tickets.revoke(SITE, [room])
    assert await result_of(nodes[0].tickets, ticket) == "revoked"
    for node in nodes:
        node.ticket_store.now_ms = START_MS + 1
    assert await result_of(nodes[0].tickets, await given(nodes[1].tickets)) == "accepted"


async def test_a_renewed_ticket_is_revoked_too(nodes: list[StoreNode]) -> None:
    """What counts is when authUrl was asked: a client that stays connected does not outlive a revocation."""
    tickets = nodes[0].tickets
    claims = new_claims(SITE, CREDENTIALS, ROOMS, await tickets.look_up(SITE, None))
    nodes[1].ticket_store.now_ms = START_MS + 60_000
    await nodes[1].tickets.revoke(SITE, ["user_1"])
    nodes[0].ticket_store.now_ms = START_MS + 120_000
    await tickets.look_up(SITE, None)
    renewed = tickets.issue(SITE, claims)
    assert renewed is not None
    assert await result_of(tickets, renewed) == "revoked"


async def test_renewing_comes_to_an_end(nodes: list[StoreNode]) -> None:
    """No ticket counts longer than max_age since authUrl was asked; then none is given."""
    node = nodes[0]
    claims = new_claims(SITE, CREDENTIALS, ROOMS, await node.tickets.look_up(SITE, None))
    node.ticket_store.now_ms = START_MS + 3_500_000
    await node.tickets.look_up(SITE, None)
    last = node.tickets.issue(SITE, claims)
    assert last is not None
    assert await result_of(node.tickets, last) == "accepted"
    node.ticket_store.now_ms = START_MS + 3_600_000
    assert await result_of(node.tickets, last) == "expired"
    assert node.tickets.issue(SITE, claims) is None


async def test_what_is_revoked_is_forgotten_in_time(nodes: list[StoreNode], valkey: Valkey) -> None:
    """No longer than a ticket of then could count; when too many rooms are revoked, all tickets are instead."""
    key = f"{prefix(SITE.name)}revoked"
    store = nodes[0].ticket_store
    await nodes[0].tickets.revoke(SITE, ["user_1"])
    store.now_ms = START_MS + 3_600_001
    await nodes[0].tickets.revoke(SITE, ["user_2"])
    assert valkey.client.zrange(key, 0, -1) == [b"user_2"]
    assert 0 < valkey.client.pttl(key) <= 3_600_000
    ticket = await given(nodes[0].tickets)
    for part in range(21):
        await nodes[1].tickets.revoke(SITE, [f"user_{part}_{number}" for number in range(5_000)])
    assert valkey.client.zcard(key) <= 100_000
    assert await result_of(nodes[0].tickets, ticket) == "revoked"


async def test_a_redis_that_lost_the_key(nodes: list[StoreNode], valkey: Valkey) -> None:
    """Tickets of before are worthless, clients fall back to their tokens; the next ones count everywhere."""
    ticket = await given(nodes[0].tickets)
    valkey.client.flushall()
    assert await result_of(nodes[0].tickets, ticket) == "invalid"
    assert await result_of(nodes[1].tickets, await given(nodes[0].tickets)) == "accepted"


async def test_figures(nodes: list[StoreNode]) -> None:
    """Each ticket that is given or handed in is counted by what became of it."""
    counts = Counts()
    tickets = Tickets(nodes[0].ticket_store, counts)
    ticket = await given(tickets)
    await result_of(tickets, ticket)
    await result_of(tickets, "made.up")
    many = new_claims(SITE, CREDENTIALS, ["room"] * 10_000, await tickets.look_up(SITE, None))
    assert tickets.issue(SITE, many) is None
    assert counts.of(SITE.name).part(SitesCounts).tickets == {"issued": 1, "accepted": 1, "invalid": 1, "too long": 1}
