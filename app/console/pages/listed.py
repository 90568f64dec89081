"""The list of pages, in the order of the menu. A page whose operation this node does not have is left out."""

from app.console.pages.audit import AUDIT
from app.console.pages.connections import CONNECTIONS, EVERY_CONNECTION
from app.console.pages.devices import DEVICES, QUEUE
from app.console.pages.directory import CHANGES, REGISTRATIONS, ROOM, ROOMS, USER, USERS
from app.console.pages.load import LOAD, LOAD_COMPARE, LOAD_RUN
from app.console.pages.log import LOG
from app.console.pages.messages import MESSAGE, MESSAGES, TRACE
from app.console.pages.nodes import NODES, STORES
from app.console.pages.operators import OPERATORS
from app.console.pages.overview import OVERVIEW
from app.console.pages.send import SEND
from app.console.pages.sites import SITE, SITES
from app.console.pages.tokens import TOKENS
from app.console.pages.totals import TOTALS
from app.console.pages.transfers import TRANSFERS
from app.console.pages.webhooks import WEBHOOKS

PAGES = (
    *(OVERVIEW, SITES, SITE, CONNECTIONS, DEVICES, QUEUE, MESSAGES, MESSAGE, TRACE, SEND),
    *(USERS, USER, ROOMS, ROOM, REGISTRATIONS, CHANGES, TRANSFERS, WEBHOOKS),
    *(NODES, EVERY_CONNECTION, STORES, TOTALS, LOG, LOAD, LOAD_RUN, LOAD_COMPARE, OPERATORS, AUDIT, TOKENS),
)
