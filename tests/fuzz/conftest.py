"""The node that the fuzzers try: sites with every protocol, in the loop of the test."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from app.config.settings import Config
from app.protocols.channels.settings import Channels
from app.protocols.redis_publish.settings import RedisPublish
from app.protocols.sites.settings import ResumeTicket
from app.protocols.topics.settings import Topics
from tests.support.bind_keys import JWT_SECRET
from tests.support.fuzzing import FuzzedNode, fuzz, fuzzed_node
from tests.support.store import make_site
from tests.support.tenant import Tenant
from tests.support.valkey import Valkey

MAX_BYTES = 100_000
#: The memory of the test itself grows until a collection: there is one between so many examples.
EXAMPLES_AT_ONCE = 2_000


@pytest.fixture
def node(valkey: Valkey, tenant: Tenant) -> Iterator[FuzzedNode]:
    """A node; authUrl knows the token `known`."""
    tenant.set_rooms("known", "user_1", "room")
    sites = {
        "shop": make_site("shop", auth_url=f"{tenant.url}/rooms", resume_ticket=ResumeTicket()),
        "wire": make_site(
            "wire", auth_url=None, channels=Channels(open_create=True), topics=Topics(jwt_secret=JWT_SECRET)
        ),
        "mail": make_site("mail", auth_url=None, redis_publish=RedisPublish(secure=False)),
    }
    config = Config(
        redis_url=valkey.url,
        sites=sites,
        max_body_bytes=MAX_BYTES,
        max_payload_bytes=MAX_BYTES,
        # A busy machine is no fault of the node.
        redis_timeout_seconds=30.0,
    )
    with fuzzed_node(config) as node:
        yield node


class Fuzz(Protocol):
    """The way to try a check."""

    def __call__(self, inputs: Any, check: Callable[[Any], None], share: float = 1.0) -> None:
        """Try it with 3,000 inputs, or a share of them; with 100,000 in a long run."""


@pytest.fixture
def run(node: FuzzedNode, is_long: bool, tell: Callable[[str], None]) -> Fuzz:
    """Tries a check on the node, and tells of it."""

    def run(inputs: Any, check: Callable[[Any], None], share: float = 1.0) -> None:
        wanted = (100_000 if is_long else 3_000) * share
        examples = 0
        while node.inputs < wanted:
            # An example has several inputs: the first ones tell how many.
            more = 100 if not examples else math.ceil((wanted - node.inputs) * examples / node.inputs)
            fuzz(inputs, check, min(more, EXAMPLES_AT_ONCE))
            examples += min(more, EXAMPLES_AT_ONCE)
            node.check_objects()
        slowest = node.slowest_seconds * 1_000
        tell(f"{node.inputs} inputs, statuses {dict(node.statuses)}, the longest turn {slowest:.1f} ms of CPU")

    return run
