"""The words that start another process of this same program."""

import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def own_program(command: str) -> list[str]:
    """The words for a command of `python -m app`, in the working folder of this process.

    That folder may hold an `app.py` of somebody else, which is passed over, unless this program is run from there.
    """
    safe = [] if Path.cwd() == _ROOT else ["-P"]
    return [sys.executable, *safe, "-m", "app", command]
