"""The meaning of the server's answers: what is sent, what is set aside, and what waits. The code is pure."""

import msgspec
from msgspec import Struct

from app.outbox.row import Meaning, SendReply, Verdict

#: The times that a message may fail by itself before it is set aside.
MAX_ATTEMPTS = 5
#: The characters of a reason that are kept.
KEPT_CHARACTERS = 300
#: Answers to the message that will be the same next time.
_REFUSALS = frozenset((400, 413, 415, 422))
#: Answers to the key: the message may be in order.
_OF_THE_SITE = frozenset((401, 429))
_FIRST_RETRY_SECONDS = 1.0


class _Failed(Struct):
    """The body of a refusal, as the server writes it."""

    error: str
    code: str = ""
    ok: bool = False


_decoder = msgspec.json.Decoder(_Failed)


def judge(answer: SendReply, attempts: int) -> Verdict:
    """The meaning of an answer to a message that has failed by itself so many times before.

    A proxy's 400 is none of the server's: a wrong address must not set every message aside.
    """
    if answer.status == 200:
        return Verdict(Meaning.SENT, is_replayed=answer.is_replayed)
    failed = _read(answer.text)
    reason = _shown(f"{answer.status}: {failed.error if failed else answer.text}" if answer.status else answer.text)
    if answer.status in _OF_THE_SITE:
        return Verdict(Meaning.SITE_WAITS, reason, answer.retry_after_seconds)
    if answer.status in _REFUSALS and (failed or answer.status == 413):
        return Verdict(Meaning.PARKED, reason)
    if failed and failed.code == "not_stored":
        if attempts + 1 >= MAX_ATTEMPTS:
            return Verdict(Meaning.PARKED, f"{reason} ({attempts + 1} times)")
        return Verdict(Meaning.LATER, reason, _FIRST_RETRY_SECONDS * 2**attempts)
    return Verdict(Meaning.SERVER_WAITS, reason, answer.retry_after_seconds)


def _read(text: str) -> _Failed | None:
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None


def _shown(text: str) -> str:
    """The text on one line; SQL holds no NUL and no half of a surrogate pair."""
    line = " ".join(text.replace("\0", " ").split())[:KEPT_CHARACTERS]
    return line.encode("utf-8", "replace").decode()
