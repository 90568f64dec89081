"""How deep JSON is nested. Texts from outside are bounded, so that no reader behind the door recurses too deeply.

The bus, the histories, other nodes and browsers read a text again, each at another depth of its own stack.
"""

import re
from itertools import accumulate

#: The most levels of lists and objects in JSON that the server accepts.
MAX_LEVELS = 200

_TEXTS = re.compile(rb'"(?:[^"\\]+|\\.)*+"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def is_too_deep(text: bytes) -> bool:
    """Whether valid JSON has more than MAX_LEVELS levels. Linear; most texts have fewer brackets than that."""
    if text.count(b"[") + text.count(b"{") <= MAX_LEVELS:
        return False
    brackets = _TEXTS.sub(b"", text).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > MAX_LEVELS
