"""The claims of a resume ticket, its validity, and its revocation."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from app.config.settings import Site
from app.errors import TicketRefused
from app.observe.counts import Counts
from app.protocols.sites.figures import SitesCounts
from app.protocols.sites.settings import ResumeTicket
from app.protocols.sites.tickets import (
    MAX_TICKET_BYTES,
    Credentials,
    Tickets,
    TicketState,
    judge,
    new_claims,
    rooms_named_in,
    seal,
)
from app.store.keys import prefix
from tests.support.store import StoreNode, make_site
from tests.support.valkey import Valkey

SITE = make_site(resume_ticket=ResumeTicket(ttl_seconds=300, max_age_seconds=3_600))
KEY = b"k" * 64
OTHER_KEY = b"another key" * 6
START_MS = 1_800_000_000_000
STATE = TicketState(START_MS, KEY, generation=3)
CREDENTIALS = Credentials("token", "meta", "device")
ROOMS = ["user_1", "Editors"]


def sealed(site: Site = SITE, credentials: Credentials = CREDENTIALS, state: TicketState = STATE, **claims: Any) -> str:
    """A ticket that is valid for the credentials."""
    made = new_claims(site, credentials, ROOMS, state)
    ticket = seal(structs.replace(made, **{"expires_at_ms": START_MS + 300_000, **claims}), state.key)
    assert ticket is not None
    return ticket


def signed(key: str | bytes = KEY, algorithm: str = "HS256", typ: str = "recado-ticket+jwt", **claims: Any) -> str:
    """A JWT with the claims of a valid ticket, changed by `claims`; a claim of None is left out."""
    content = jwt.decode(sealed(), KEY, ["HS256"], audience="recado-ticket") | claims
    given = {name: value for name, value in content.items() if value is not None}
    return jwt.encode(given, key, algorithm, headers={"typ": typ})


def refusal(ticket: str, state: TicketState = STATE, site: Site = SITE, **credentials: Any) -> tuple[str, str]:
    """The reason why the ticket is not valid: result and text."""
    with pytest.raises(TicketRefused) as caught:
        judge(site, structs.replace(CREDENTIALS, ticket=ticket, **credentials), state)
    return caught.value.result, str(caught.value)


def test_a_ticket_names_the_rooms() -> None:
    """The rooms are those of the ticket, with the token that it was issued for or without a token."""
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
    """A ticket is valid only for its own site, device, meta and token."""
    assert refusal(sealed(), **changes) == ("foreign", text)


def test_an_expired_ticket() -> None:
    """A ticket is valid until the time in it."""
    ticket = sealed()
    judge(SITE, structs.replace(CREDENTIALS, ticket=ticket), structs.replace(STATE, now_ms=START_MS + 299_999))
    late = structs.replace(STATE, now_ms=START_MS + 300_000)
    assert refusal(ticket, late) == ("expired", "the resume ticket has expired")


@pytest.mark.parametrize("changes", [{"generation": 4}, {"generation": 2}, {"revoked_at_ms": START_MS}])
def test_a_revoked_ticket(changes: dict[str, int]) -> None:
    """A ticket is revoked by a new generation, or by a revocation of a room not before the request to authUrl."""
    assert refusal(sealed(), structs.replace(STATE, **changes)) == ("revoked", "the resume ticket was revoked")
    judge(SITE, structs.replace(CREDENTIALS, ticket=sealed()), structs.replace(STATE, revoked_at_ms=START_MS - 1))


def test_a_ticket_that_was_tampered_with() -> None:
    """A ticket with any change, or with another signer's signature, is refused with the same text."""
    ticket = sealed()
    header, content, signature = ticket.split(".")
    grown = urlsafe_b64decode(content + "==").replace(b'"user_1"', b'"user_2"')
    deep = urlsafe_b64encode(b"[" * 4_000).decode()
    forged = [
        f"{header}.{urlsafe_b64encode(grown).decode().rstrip('=')}.{signature}",
        sealed(state=structs.replace(STATE, key=OTHER_KEY)),
        f"{header}.{content}.",
        f"{ticket}x",
        f"{ticket}=",
        f"{header}.{content}=.{signature}",
        f"{header}=.{content}.{signature}",
        f"{header}.{content}",
        f"{content}.{signature}",
        f"{ticket}.{signature}",
        f"{header}.{content}.{signature[:-8]}",
        f"..{signature}",
        "",
        ".",
        "..",
        "a",
        "ü.ü.ü",
        "\ud800",
        "a" * 100_000,
        deep,
        f"{deep}.{content}.{signature}",
        f"{header}.{deep}.{signature}",
        f"{header}.{urlsafe_b64encode(b'{}').decode()}.{signature}",
    ]
    for text in forged:
        assert refusal(text) == ("invalid", "the resume ticket is not valid"), text


def test_no_other_token_is_a_ticket() -> None:
    """A JWT with another type, audience or form of claims is no ticket, although the site's key signs it; neither is a
    JWT of another algorithm."""
    judge(SITE, structs.replace(CREDENTIALS, ticket=signed()), STATE)
    others = [
        signed(typ="JWT"),
        signed(aud=None),
        signed(aud="newsite"),
        signed(aud=["recado-ticket"]),
        signed(rooms=None),
        signed(rooms="user_1"),
        signed(generation="3"),
        signed(expires_at_ms="never"),
        signed(algorithm="HS512"),
        signed("", "none"),
    ]
    for text in others:
        assert refusal(text) == ("invalid", "the resume ticket is not valid"), text


def test_a_ticket_is_no_other_token() -> None:
    """A reader of other JWTs with the same key refuses a ticket for its audience."""
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(sealed(), KEY, ["HS256"])
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(sealed(), KEY, ["HS256"], audience="newsite")


def test_a_ticket_of_the_old_form() -> None:
    """A ticket of the earlier form, without a header, is not valid: its client uses its token."""
    _, content, signature = sealed().split(".")
    assert refusal(f"{content}.{signature}") == ("invalid", "the resume ticket is not valid")
    assert rooms_named_in(f"{content}.{signature}") == []


SEGMENTS = st.one_of(
    st.text(),
    st.binary(max_size=200).map(lambda data: urlsafe_b64encode(data).decode().rstrip("=")),
    st.dictionaries(st.sampled_from(["alg", "typ", "crit", "b64", "kid", "aud", "exp", "rooms"]), st.integers()).map(
        lambda value: urlsafe_b64encode(str(value).replace("'", '"').encode()).decode().rstrip("=")
    ),
    st.sampled_from(sealed().split(".")),
)


@given(ticket=st.one_of(st.text(), st.lists(SEGMENTS, min_size=1, max_size=4).map(".".join)))
@example(ticket="\ud800.\ud800.\ud800")
def test_any_text_as_a_ticket(ticket: str) -> None:
    """Any text either is the ticket or raises TicketRefused, and the search for its rooms never fails."""
    assert all(isinstance(room, str) for room in rooms_named_in(ticket))
    with suppress(TicketRefused):
        judge(SITE, structs.replace(CREDENTIALS, ticket=ticket), STATE)
        assert ticket == sealed()


@given(at=st.integers(0, len(sealed()) - 1), letter=st.characters(codec="ascii"))
def test_any_letter_changed(at: int, letter: str) -> None:
    """A ticket that differs in one letter is refused."""
    ticket = sealed()
    changed = ticket[:at] + letter + ticket[at + 1 :]
    if changed != ticket:
        assert refusal(changed) == ("invalid", "the resume ticket is not valid")


@given(device=st.text(st.characters(exclude_categories=())), room=st.text(st.characters(exclude_categories=())))
@example(device="\ud800", room="\udfff")
def test_any_device_and_room(device: str, room: str) -> None:
    """A ticket of any device and room is valid, half a surrogate pair included."""
    credentials = structs.replace(CREDENTIALS, device_id=device)
    ticket = sealed(credentials=credentials, rooms=[room])
    assert judge(SITE, structs.replace(credentials, ticket=ticket), STATE).rooms == [room]
    assert rooms_named_in(ticket) == [room]


def test_a_ticket_shows_no_secret() -> None:
    """The owner of a ticket can read its rooms. Token and meta appear only as a mark, which differs for every site's
    key."""
    content = urlsafe_b64decode(sealed().split(".")[1] + "==")
    assert b"user_1" in content
    assert b'"token"' not in content
    assert b'"meta"' not in content
    assert sealed().split(".")[1] != sealed(state=structs.replace(STATE, key=OTHER_KEY)).split(".")[1]


def test_a_ticket_of_very_many_rooms_is_not_given() -> None:
    """A ticket with very many rooms is not issued, because it would not fit in a URL."""
    claims = new_claims(SITE, CREDENTIALS, [f"room_{number}" for number in range(1_000)], STATE)
    assert seal(claims, KEY) is None
    assert len(sealed()) < MAX_TICKET_BYTES / 5


# With the store


@pytest.fixture
async def nodes(valkey: Valkey) -> AsyncIterator[list[StoreNode]]:
    """Two nodes, on a clock that the test sets."""
    started = [await StoreNode.start(valkey, [SITE]) for _ in range(2)]
    for node in started:
        node.ticket_store.now_ms = START_MS
    yield started
    for node in started:
        await node.close()


async def issued_by(tickets: Tickets) -> str:
    """A ticket for CREDENTIALS, issued as at a connect."""
    state = await tickets.look_up(SITE, None)
    ticket = tickets.issue(SITE, new_claims(SITE, CREDENTIALS, ROOMS, state))
    assert ticket is not None
    return ticket


async def result_of(tickets: Tickets, ticket: str) -> str:
    """The result for a ticket that a client presents."""
    try:
        tickets.redeem(SITE, structs.replace(CREDENTIALS, ticket=ticket), await tickets.look_up(SITE, ticket))
    except TicketRefused as refusal:
        return refusal.result
    return "accepted"


async def test_every_node_takes_every_nodes_tickets(nodes: list[StoreNode]) -> None:
    """The node that needs the site's key first makes it, once, and all nodes share it."""
    tickets = [await issued_by(node.tickets) for node in nodes]
    assert [await result_of(node.tickets, ticket) for node in nodes for ticket in tickets] == ["accepted"] * 4


async def test_revoking_all(nodes: list[StoreNode]) -> None:
    """A revocation counts on every node at once. Tickets issued later are valid."""
    ticket = await issued_by(nodes[0].tickets)
    await nodes[1].tickets.revoke(SITE, [])
    assert await result_of(nodes[0].tickets, ticket) == "revoked"
    assert await result_of(nodes[0].tickets, await issued_by(nodes[1].tickets)) == "accepted"


@pytest.mark.parametrize("room", ["user_1", "editors", "EDITORS"])
async def test_revoking_by_room(nodes: list[StoreNode], room: str) -> None:
    """A revocation covers tickets with the room, in any spelling. Other tickets stay valid, and so do tickets of a
    later request to authUrl."""
    ticket = await issued_by(nodes[0].tickets)
    await nodes[1].tickets.revoke(SITE, ["user_2"])
    assert await result_of(nodes[0].tickets, ticket) == "accepted"
    await nodes[1].tickets.revoke(SITE, [room])
    assert await result_of(nodes[0].tickets, ticket) == "revoked"
    for node in nodes:
        node.ticket_store.now_ms = START_MS + 1
    assert await result_of(nodes[0].tickets, await issued_by(nodes[1].tickets)) == "accepted"


async def test_a_renewed_ticket_is_revoked_too(nodes: list[StoreNode]) -> None:
    """The time of the request to authUrl decides: a client that stays connected does not outlive a revocation."""
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
    """A ticket is valid no longer than max_age after the request to authUrl. After that no ticket is issued."""
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
    """A revocation is kept no longer than a ticket of that time can be valid. Too many revoked rooms revoke all
    tickets."""
    key = f"{prefix(SITE.name)}revoked"
    store = nodes[0].ticket_store
    await nodes[0].tickets.revoke(SITE, ["user_1"])
    store.now_ms = START_MS + 3_600_001
    await nodes[0].tickets.revoke(SITE, ["user_2"])
    assert valkey.client.zrange(key, 0, -1) == [b"user_2"]
    assert 0 < valkey.client.pttl(key) <= 3_600_000
    ticket = await issued_by(nodes[0].tickets)
    for part in range(21):
        await nodes[1].tickets.revoke(SITE, [f"user_{part}_{number}" for number in range(5_000)])
    assert valkey.client.zcard(key) <= 100_000
    assert await result_of(nodes[0].tickets, ticket) == "revoked"


async def test_a_redis_that_lost_the_key(nodes: list[StoreNode], valkey: Valkey) -> None:
    """Older tickets are not valid, and clients fall back to their tokens. Later tickets are valid on every node."""
    ticket = await issued_by(nodes[0].tickets)
    valkey.client.flushall()
    assert await result_of(nodes[0].tickets, ticket) == "invalid"
    assert await result_of(nodes[1].tickets, await issued_by(nodes[0].tickets)) == "accepted"


async def test_figures(nodes: list[StoreNode]) -> None:
    """Each issued ticket and each presented ticket is counted by its result."""
    counts = Counts()
    tickets = Tickets(nodes[0].ticket_store, counts)
    ticket = await issued_by(tickets)
    await result_of(tickets, ticket)
    await result_of(tickets, "made.up")
    many = new_claims(SITE, CREDENTIALS, ["room"] * 10_000, await tickets.look_up(SITE, None))
    assert tickets.issue(SITE, many) is None
    assert counts.of(SITE.name).part(SitesCounts).tickets == {"issued": 1, "accepted": 1, "invalid": 1, "too long": 1}
