"""The bound on requests without a key to an open /connections, /state or /memory."""

from __future__ import annotations

import pytest

from app.errors import LimitReached
from app.protocols.topics.open_status import MAX_A_SECOND, OpenStatus


def test_share_of_a_second() -> None:
    """Each site has its share of each second; past it a request is refused until the next second."""
    status = OpenStatus()
    for _ in range(MAX_A_SECOND):
        status.take("a", 1.2)
    with pytest.raises(LimitReached) as refused:
        status.take("a", 1.9)
    assert (refused.value.status, refused.value.retry_after_seconds) == (429, 1)
    status.take("b", 1.9)
    status.take("a", 2.0)
