"""Every error of aiohttp has a reason of ours, so that none reaches a client as a crash."""

import aiohttp
import pytest

from app.backends.exchange import reason_of
from app.backends.fast_pool import REASONS
from tests.backends.conftest import errors_of

# Raised by parts of aiohttp that are not used here: WebSockets and multipart bodies.
NOT_RAISED = {
    aiohttp.WSMessageTypeError,
    aiohttp.WebSocketError,
    aiohttp.EofStream,
    aiohttp.BadContentDispositionHeader,
    aiohttp.BadContentDispositionParam,
}


@pytest.mark.parametrize("error", sorted(errors_of(aiohttp) - NOT_RAISED, key=str))
def test_every_error_of_aiohttp_has_a_reason(error: type[Exception]) -> None:
    """An exception that aiohttp gains fails this test until the table has it."""
    assert reason_of(error.__new__(error), REASONS)
