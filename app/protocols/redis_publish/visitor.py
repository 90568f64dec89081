"""One client of a site: the users that it has identified itself as, and its tries. No I/O."""

import itertools
from collections import deque

from msgspec import structs

from app.core.live import ConnectionFacts, Measures
from app.core.seat import Seat
from app.protocols.redis_publish.envelope import Identifier
from app.protocols.redis_publish.ports import ClientConnection
from app.protocols.redis_publish.recipient import Recipient

MAX_TRIES = 3
#: The users of one connection. RedMessenger adds a user with each `identifier`, without a bound.
MAX_USERS = 100


class Visitor:
    """Lives as long as its connection; `close` ends it. Without a user nobody knows yet who it is.

    Its identifiers are looked at one after the other: so wrong keys that come at once are counted one by one.
    """

    #: The connections that may be listed, each with its own.
    _numbers = itertools.count(1)

    def __init__(self, connection: ClientConnection, address: str, seat: Seat) -> None:
        self.connection = connection
        self.address = address
        #: Only with a journal; without a user, who is not known at the begin.
        self.begin: ConnectionFacts | None = None
        #: Tells it from the others; see `LiveConnection`.
        self.live_id = str(next(self._numbers))
        #: Its place among the connections that the site's limits count; given back at its end.
        self.seat = seat
        #: One recipient for each of its users.
        self.recipients: dict[str, Recipient] = {}
        #: The identifiers that were wrong.
        self.tries = 0
        #: Identifiers (None: of a wrong form) with the ids of their acks, which wait to be looked at.
        self.identifiers: deque[tuple[Identifier | None, int | None]] = deque()
        self.is_identifying = False
        self.is_closed = False
        #: The ids of the acks that the site asks for: each is that of one message of one user.
        self.ack_ids = itertools.count(1)

    @property
    def is_full(self) -> bool:
        """Whether it may not send another identifier at this moment."""
        return len(self.recipients) + len(self.identifiers) >= MAX_USERS

    @property
    def has_tries(self) -> bool:
        """Whether another identifier is looked at."""
        return not self.is_closed and self.tries < MAX_TRIES

    @property
    def facts(self) -> ConnectionFacts | None:
        """Its facts, with the first of its users; see `LiveConnection`."""
        user = next(iter(self.recipients), None)
        return self.begin if self.begin is None or user is None else structs.replace(self.begin, user=user)

    def measures(self) -> Measures:
        """Measures it; see `LiveConnection`."""
        connection = self.connection
        read, written = connection.session.wire_bytes() or (None, None)
        messages = sum(recipient.messages for recipient in self.recipients.values())
        return Measures(connection.transport, read, written, messages, outbox_bytes=connection.buffered_bytes)

    def disconnect(self, reason: str) -> None:
        """Ends it; see `LiveConnection`."""
        self.connection.session.close(reason)

    def close(self) -> list[Recipient]:
        """Ends it, and returns its recipients."""
        self.is_closed = True
        self.identifiers.clear()
        return list(self.recipients.values())
