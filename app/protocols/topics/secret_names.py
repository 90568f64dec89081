"""Names of headers and of fields whose values may be secret, and so are not shown."""

import re

_SECRET = re.compile(b"auth|cookie|token|secret|key|password|credential|session|csrf", re.IGNORECASE)


def is_secret(name: bytes) -> bool:
    """Whether the value of this name may be secret."""
    return _SECRET.search(name) is not None
