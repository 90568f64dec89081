"""The login of simulated users, against another implementation of the server's side."""

from __future__ import annotations

import pytest
from scramp import ScramException, ScramMechanism

from app.canary.wire import WireError
from app.load.chat_login import ScramLogin

_MECHANISM = ScramMechanism("SCRAM-SHA-256")


@pytest.mark.parametrize(("password", "is_right"), [("a password", True), ("another one", False)])
def test_a_login(password: str, is_right: bool) -> None:
    """The proof of the right password is taken, that of another one is not."""
    known = _MECHANISM.make_auth_info("a password", iteration_count=4096)
    server = _MECHANISM.make_server(lambda login: known)
    login = ScramLogin("load-1", password)
    server.set_client_first(login.first)
    final = login.final(server.get_server_first())
    if is_right:
        server.set_client_final(final)
        assert server.get_server_final().startswith("v=")
    else:
        with pytest.raises(ScramException):
            server.set_client_final(final)


@pytest.mark.parametrize("answer", ["", "None", "r=foreign,s=AAAA,i=4096", "e=unknown-user"])
def test_another_answer(answer: str) -> None:
    """An answer that is none to this login ends it."""
    with pytest.raises(WireError):
        ScramLogin("load-1", "a password").final(answer)
