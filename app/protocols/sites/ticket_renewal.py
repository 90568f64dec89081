"""Renewal of resume tickets: a connected client gets a new ticket in an event before its old ticket expires.

Without renewal, a client that has been connected for long would hold an expired ticket. In a reconnect storm that is
nearly every client.
"""

import asyncio
import random

from app.config.settings import Site
from app.protocols.sites.ports import ClientLink
from app.protocols.sites.settings import ResumeTicket
from app.protocols.sites.tickets import Claims, Tickets, TokenTerms
from app.transport.deadline_wheel import NOT_WAITING, DeadlineWheel

EVENT = "_resume_ticket"
_TICK_SECONDS = 0.25
#: The earliest and latest renewal, as shares of a ticket's lifetime. The spread keeps clients that connected at once
#: from being renewed at once.
_SOONEST, _LATEST = 0.4, 0.6


class Renewal:
    """The tickets of one connection. Lives as long as the connection; `TicketRenewals.stop` ends it."""

    __slots__ = ("_claims", "_connection", "_owner", "_site", "bucket", "deadline")

    def __init__(self, owner: "TicketRenewals", connection: ClientLink, site: Site, claims: Claims) -> None:
        self._owner = owner
        self._connection = connection
        self._site = site
        self._claims = claims
        self.bucket = NOT_WAITING
        self.deadline = 0.0

    def next_ticket(self) -> str | None:
        """Returns a ticket and schedules its renewal; None when the claims allow no more tickets."""
        ticket = self._owner.tickets.issue(self._site, self._claims)
        if ticket is not None:
            share = random.uniform(_SOONEST, _LATEST)
            wait_seconds = self._site.require_section(ResumeTicket).ttl_seconds * share
            self._owner.wheel.schedule(self, asyncio.get_running_loop().time() + wait_seconds)
        return ticket

    def deadline_passed(self, now: float) -> None:
        """Sends the client a new ticket. The deadline wheel calls this."""
        ticket = self.next_ticket()
        if ticket is not None:
            self._connection.send_event(EVENT, [ticket])

    def token_renewed(self, token: str, terms: TokenTerms) -> None:
        """The client has handed in another token: the tickets of the one before end with that, so it gets a new one."""
        self._claims = self._owner.tickets.renewed(self._site, self._claims, token, terms)
        self._owner.stop(self)
        self.deadline_passed(0)


class TicketRenewals:
    """The renewals of all connections. Lives as long as the server."""

    def __init__(self, tickets: Tickets) -> None:
        self.tickets = tickets
        self.wheel = DeadlineWheel(_TICK_SECONDS)

    def start(self, connection: ClientLink, site: Site, claims: Claims) -> Renewal:
        """Returns the renewal of a connection that was just admitted."""
        return Renewal(self, connection, site, claims)

    def stop(self, renewal: Renewal | None) -> None:
        """Ends the renewal of a closed connection. Idempotent."""
        if renewal is not None:
            self.wheel.cancel(renewal)
