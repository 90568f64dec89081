"""How deep JSON is nested. Texts from outside are bounded, so that no reader behind the door recurses too deeply.

The bus, the histories, other nodes and browsers read a text again, each at another depth of its own stack.
"""

import re
from itertools import accumulate

#: The most levels of lists and objects in JSON that the server accepts.
MAX_LEVELS = 200

_ALIKE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_RUNS = re.compile(rb"\[+|\]+")
#: So many innermost pairs are counted one by one; while there are more, they are all taken out at once.
_FEW = 30_000


def is_too_deep(text: bytes) -> bool:
    """Whether valid JSON has more than MAX_LEVELS levels. Linear; most texts have fewer brackets than that."""
    if text.count(b"[") + text.count(b"{") <= MAX_LEVELS:
        return False
    brackets = _without_texts(text).translate(_ALIKE, _NO_BRACKETS)
    taken_out = 0
    while brackets.count(b"[]") > _FEW:
        brackets = brackets.replace(b"[]", b"")
        taken_out += 1
    steps = (len(run) if run[0] == ord("[") else -len(run) for run in _RUNS.findall(brackets))
    return max(accumulate(steps), default=0) + taken_out > MAX_LEVELS


def _without_texts(text: bytes) -> bytes:
    """The parts between the strings of valid JSON. Backslashes stand in strings alone, and escape one sign each."""
    return b"".join(text.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
