"""The requests and connections that the transport refuses, counted by reason; metrics read the counter."""

from collections import Counter

MALFORMED = "malformed request"
HEAD_TOO_LARGE = "head too large"
TRAILERS_TOO_LARGE = "trailers too large"
NOTHING_SENT = "nothing sent"
HEAD_TOO_SLOW = "head too slow"
BODY_TOO_SLOW = "body too slow"

refused: Counter[str] = Counter()
