"""The refusal that a failure is shown as: every error that operations raise, with its status and code."""

import structlog

from app.errors import BadRequest, RecadoError, RequestRefused, StoreError, StoreUnavailable
from app.journal.database import JournalUnavailable

_log = structlog.get_logger(__name__)


def refusal_of(error: RecadoError) -> RequestRefused:
    """The refusal, without the frames of the error, which may hold a password. A reason with inner details stays in the
    log."""
    if isinstance(error, RequestRefused):
        return RequestRefused(str(error), error.code, error.status)
    if isinstance(error, BadRequest):
        return RequestRefused(str(error), "bad_request", error.status)
    _log.error("console request failed", reason=str(error))
    if isinstance(error, JournalUnavailable):
        return RequestRefused("The journal's database does not answer, try again.", "journal_unavailable", 503)
    if isinstance(error, StoreUnavailable):
        return RequestRefused("The message store is away, try again.", "store_unavailable", 503)
    return RequestRefused("The message store failed." if isinstance(error, StoreError) else "It failed.", "failed", 500)
