"""One attempt to send a post: its outcome for the post, and the record that operators read."""

import json
import random

import msgspec
from msgspec import Struct

from app.backends.hook_answer import HookAnswer
from app.clock import rfc3339
from app.webhooks.event import HookPost

#: The pauses after failed attempts; behind the last one the post is parked.
RETRY_SECONDS = (5, 30, 120, 600, 3_600, 21_600, 86_400)
#: Each pause is so much longer or shorter, by chance: sites that failed together do not come back together.
_JITTER = 0.2
#: The backend wants no events any more.
_GONE = 410
#: The users of a post that its row in the journal names.
MAX_LISTED_USERS = 100


class Attempt(Struct):
    """The record of an attempt, as `recado webhooks list` shows it. The columns of the journal have its names."""

    site: str
    at: int
    webhook_id: str
    seqs: list[int]
    #: 0: there was no answer.
    status: int
    ms: int
    answer: str
    error: str
    #: 'delivered', 'retry', 'parked', 'off' or 'test'.
    outcome: str
    #: Which attempt of its post it is, from 1 on.
    attempt: int

    def shown(self) -> dict[str, object]:
        """The attempt for people and programs: its time in RFC 3339."""
        return msgspec.structs.asdict(self) | {"at": rfc3339(self.at)}


def outcome_of(answer: HookAnswer, tries: int) -> str:
    """The outcome for a post that had failed so often before."""
    if 200 <= answer.status < 300:
        return "delivered"
    if answer.status == _GONE:
        return "off"
    return "retry" if tries < len(RETRY_SECONDS) else "parked"


def pause_ms(tries: int) -> int:
    """The time until the next attempt of a post that had failed so often before this failure."""
    return int(RETRY_SECONDS[tries] * 1000 * random.uniform(1 - _JITTER, 1 + _JITTER))


def record_of(site: str, post: HookPost, at_ms: int, answer: HookAnswer, outcome: str) -> Attempt:
    """The record of an attempt."""
    return Attempt(
        site=site,
        at=at_ms,
        webhook_id=post.id,
        seqs=list(post.seqs),
        status=answer.status,
        ms=answer.ms,
        answer=answer.text,
        error=answer.error,
        outcome=outcome,
        attempt=post.tries + 1,
    )


def row_of(attempt: Attempt, post: HookPost, node: str) -> bytes:
    """The row for the table `webhook_attempts` of the journal, as a list of one."""
    users = sorted(post.users)
    row = {
        "at": attempt.at,
        "webhook_id": attempt.webhook_id,
        "attempt": attempt.attempt,
        "events": len(attempt.seqs),
        "types": post.types,
        "from_seq": min(attempt.seqs, default=None),
        "to_seq": max(attempt.seqs, default=None),
        "users": json.dumps(users) if len(users) <= MAX_LISTED_USERS else None,
        "status": attempt.status or None,
        "ms": attempt.ms,
        "answer": attempt.answer,
        "error": attempt.error or None,
        "outcome": attempt.outcome,
        "node": node,
    }
    return json.dumps([row]).encode()
