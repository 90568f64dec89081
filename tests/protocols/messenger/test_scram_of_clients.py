"""SCRAM between three implementations: the server's, the page's by WebCrypto, and scramp's client; each makes keys that
the others prove."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scramp.utils import ScramException, saslprep

from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.scram import Keys, ScramExchange, keys_of, login_of, made_up_keys
from tests.support.chat import ITERATIONS, Scram
from tests.support.processes import REPOSITORY

_CLIENT = REPOSITORY / "app/protocols/messenger/client/messenger.js"
#: Passwords that SASLprep changes or that have other traps.
PASSWORDS = {
    "plain": "pencil",
    "roman": "\u2168 caf\u00e9",
    "no break space": "a\u00a0b\u3000c",
    "soft hyphen": "I\u00adX",
    "parts of a letter": "e\u0301a\u030a",
    "ligature": "\ufb01sh",
    "comma and equals": "a,b=c,r=x",
    "right to left": "\u05e9\u05dc\u05d5\u05dd",
    "space": " ",
    "long": "pass word " * 25,
}
#: A password with characters that Unicode did not have when SASLprep was written.
YOUNG = "\U0001f511\U0001f9d1\u200d\U0001f4bb"
LOGINS = ("ann", "J\u00f6rg", "a,b=c", "Ann B", "\u2168")
#: Texts that no password may hold.
REFUSED = ("a\x07", "\ue000", "\ufffd", "\x00", "\u2028x")


class Pages:
    """The page's SCRAM in a process of Node. Lives for the module."""

    def __init__(self, folder: Path) -> None:
        """Start it; a module of the page is one of Node by its ending."""
        module = folder / "messenger.mjs"
        shutil.copy(_CLIENT, module)
        command = ["node", str(Path(__file__).parent / "scram_page.mjs"), str(module)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._numbers = itertools.count()

    def ask(self, doing: str, id: int = 0, **data: Any) -> dict[str, Any]:
        """One question."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"doing": doing, "id": id, **data}) + "\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))

    def keys(self, password: str) -> Keys:
        """The keys of a new password."""
        made = self.ask("keys", password=password, iterations=ITERATIONS)["ok"]
        salt, stored, server = (base64.b64decode(made[name]) for name in ("salt", "stored_key", "server_key"))
        return Keys(salt, made["iterations"], stored, server)

    def login(self, login: str, password: str) -> PageLogin:
        """A login of a page."""
        return PageLogin(self, next(self._numbers), login, password)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


class PageLogin:
    """One login, with the methods of `Scram`. Lives until its proof was sent."""

    def __init__(self, pages: Pages, id: int, login: str, password: str) -> None:
        """Make the first message."""
        self._pages = pages
        self._id = id
        self.first: str = self._pages.ask("first", id, login=login, password=password)["ok"]

    def final(self, server_first: str) -> str:
        """The last message."""
        return str(self._pages.ask("final", self._id, data=server_first)["ok"])

    def check(self, server_final: str) -> None:
        """Raise unless the server has proved itself."""
        if "ok" not in self._pages.ask("check", self._id, data=server_final):
            raise ScramException("The server's proof is wrong.")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """The page's SCRAM."""
    pages = Pages(tmp_path_factory.mktemp("pages"))
    yield pages
    pages.close()


def lets_in(scram: Scram | PageLogin, keys: Keys) -> bool:
    """Whether the server lets a client in by these keys; the client then finds the server's own proof right, and that
    of another server wrong."""
    exchange = ScramExchange(login_of(scram.first), scram.first, keys)
    answer = exchange.finish(scram.final(exchange.server_first))
    if answer is None:
        return False
    scram.check(answer)
    with pytest.raises(ScramException):
        scram.check("v=" + base64.b64encode(bytes(32)).decode())
    return True


@pytest.mark.parametrize("maker", ["server", "page"])
@pytest.mark.parametrize("password", PASSWORDS.values(), ids=PASSWORDS.keys())
def test_everyone_proves_the_keys_of_everyone(pages: Pages, maker: str, password: str) -> None:
    """A password whose keys the server or a page has made lets in the page and a client of another implementation, and
    so does every other way to write it; another password lets none in."""
    keys = keys_of(password, ITERATIONS) if maker == "server" else pages.keys(password)
    for same in {password, saslprep(password)}:
        assert lets_in(Scram("ann", same), keys)
        assert lets_in(pages.login("ann", same), keys)
    for other in (password + password[0], password[:-1] or "x"):
        assert not lets_in(Scram("ann", other), keys)
        assert not lets_in(pages.login("ann", other), keys)
    assert not lets_in(pages.login("ann", password), made_up_keys(b"s" * 32, "ann", ITERATIONS))


def test_characters_that_saslprep_does_not_know(pages: Pages) -> None:
    """Younger characters are refused by the server and by other clients; a password of them that a page has set lets
    pages in."""
    with pytest.raises(ChatRefusal):
        keys_of(YOUNG, ITERATIONS)
    keys = pages.keys(YOUNG)
    assert lets_in(pages.login("ann", YOUNG), keys)
    assert not lets_in(pages.login("ann", YOUNG[:-1]), keys)


@pytest.mark.parametrize("login", LOGINS)
def test_everyone_names_the_same_login(pages: Pages, login: str) -> None:
    """The server reads the same login from the first message of a page and of another client."""
    assert login_of(pages.login(login, "x").first) == login_of(Scram(login, "x").first)


@pytest.mark.parametrize("password", REFUSED)
def test_passwords_that_nobody_takes(pages: Pages, password: str) -> None:
    """Characters that SASLprep prohibits make no keys, on neither side."""
    assert pages.ask("keys", password=password, iterations=ITERATIONS) == {"error": "bad_request"}
    with pytest.raises((ChatRefusal, ScramException)):
        keys_of(password, ITERATIONS)


@settings(deadline=None, max_examples=60)
@given(password=st.text(min_size=1, max_size=20))
def test_any_password(pages: Pages, password: str) -> None:
    """Any password that the server takes lets the page in by the server's keys."""
    try:
        keys = keys_of(password, ITERATIONS)
    except (ChatRefusal, ScramException):
        return
    assert lets_in(pages.login("ann", password), keys)
