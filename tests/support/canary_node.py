"""`python -m tests.support.canary_node` is the command `recado` with a canary in a hurry; tests set the variables."""

from __future__ import annotations

import os

from app.canary import canary, site
from app.canary.canary import Canary
from app.canary.session import CanarySession
from app.cli import main


def hurry() -> None:
    """Take the figures of the test in place of the canary's own."""
    Canary.every_seconds = float(os.environ.get("CANARY_EVERY", "0.2"))
    canary._WAIT_SECONDS = int(os.environ.get("CANARY_WAIT", "5"))
    CanarySession.has_acks = os.environ.get("CANARY_ACKS") != "none"
    site._DEVICE_TTL_SECONDS = int(os.environ.get("CANARY_TTL", "30"))


if __name__ == "__main__":
    hurry()
    main()
