"""The requests and connections that the transport refuses, counted by reason; metrics read the counter."""

from collections import Counter

NO_TLS = "no TLS"
HANDSHAKE_FAILED = "handshake failed"
HANDSHAKE_TOO_SLOW = "handshake too slow"
TOO_MANY_HANDSHAKES = "too many handshakes"
MALFORMED = "malformed request"
HEAD_TOO_LARGE = "head too large"
TRAILERS_TOO_LARGE = "trailers too large"
NOTHING_SENT = "nothing sent"
HEAD_TOO_SLOW = "head too slow"
BODY_TOO_SLOW = "body too slow"
ANSWER_UNREAD = "answer not read"
TOO_MANY_PACKETS = "too many packets"
PACKETS_TOO_FAST = "packets too fast"
TOO_MANY_CONNECTS = "too many connects"
TOO_MANY_SESSIONS = "too many sessions"
NO_NAMESPACE = "no namespace joined"
FOREIGN_ORIGIN = "foreign origin"
NODE_SIGNATURE = "node signature"
TOO_MANY_GUESSES = "too many wrong keys"
TOO_MANY_LEVELS = "too many topic levels"
TOO_MANY_PASSWORDS = "too many passwords"
TOO_MANY_BODIES = "too many long bodies"
TOO_MANY_FILE_REQUESTS = "too many requests for files"

refused: Counter[str] = Counter()
