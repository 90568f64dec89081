"""The lines that the doctor names are those of the files in deploy/, so that they are tested there."""

from __future__ import annotations

import pytest

from app.doctor.advice import SUBJECTS, lines_for
from tests.support.processes import REPOSITORY

FILES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "caddy": "Caddyfile"}
#: Lines that stand in no good file: they are to be deleted, or belong to an installation below a path.
_ELSEWHERE = ("delete this line", "PREFIX", "proxy_cache off;", "flush_interval", "with a slash at its end")


@pytest.mark.parametrize("subject", sorted(SUBJECTS))
def test_lines_stand_in_the_files(subject: str) -> None:
    """Each line for a proxy is in that proxy's file, or is marked as one that is not; each subject has lines."""
    changes = lines_for(subject)
    assert changes
    for change in changes:
        if change.where in FILES and not any(word in change.line for word in _ELSEWHERE):
            text = " ".join((REPOSITORY / "deploy" / FILES[change.where]).read_text().split())
            assert change.line in text, change
