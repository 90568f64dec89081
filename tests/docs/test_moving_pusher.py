"""docs/moving/pusher.md is true: the settings are taken, the packages send with them, and the page gets it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from urllib.parse import urlsplit

import pytest

from tests.docs.conftest import TOKEN, Pages, settings_of
from tests.support.deployment import Deployment
from tests.support.examples import example
from tests.support.node_page import NodePage
from tests.support.processes import REPOSITORY
from tests.support.server import clean_environment
from tests.support.tenant import Tenant

_PAGE = "docs/moving/pusher.md"
#: The programs of the page that have their package here.
PROGRAMS = {
    "py": (example(_PAGE, "py", 1), [sys.executable, "-c"]),
    "js": (example(_PAGE, "js", 1), ["node", "-e"]),
}


@pytest.fixture(scope="module")
def server(tenant: Tenant) -> Iterator[Deployment]:
    """A server with the site of the page, whose backend is the tests'."""
    deployment = Deployment({"newsite": settings_of(_PAGE)["newsite"] | {"authUrl": f"{tenant.url}/newsite/rooms"}})
    yield deployment
    deployment.end()


def run(server: Deployment, language: str, change: Callable[[str], str] = str) -> None:
    """Run a program of the page, with this server's address in place of the documentation's."""
    url, (program, command) = urlsplit(server.url), PROGRAMS[language]
    text = dedent(program.text)
    for old, new in (("push.example.com", str(url.hostname)), ("443", str(url.port))):
        assert old in text
        text = text.replace(old, new)
    text = text.replace("ssl=True", "ssl=False").replace("useTLS: true", "useTLS: false")
    folder = REPOSITORY / "tests" / "clients"
    done = subprocess.run([*command, change(text)], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_packages_reach_the_page(tenant: Tenant, server: Deployment, pages: Pages) -> None:
    """Each program sends an event, and the page shows its value; the socket id of the page leaves it out."""
    tenant.set_rooms(TOKEN, "user_8", "private-orders.7")
    page = pages.open(example(_PAGE, "html", 1), values={"headers": {}}, after=_TELLS)
    (socket_id,) = page.wait_call("settings")
    for number, language in enumerate(PROGRAMS, 1):
        run(server, language)
        assert page.wait_call("show", nth=number) == [{"id": 7}]
    run(server, "py", lambda text: text.replace('{"id": 7})', f'{{"id": 8}}, "{socket_id}")'))
    run(server, "js")
    assert page.wait_call("show", nth=3) == [{"id": 7}]


def test_the_page_takes_messages_of_send(tenant: Tenant, server: Deployment, pages: Pages) -> None:
    """A message of /send has its value in the page, live and in a `_batch`, beside events of the packages."""
    tenant.set_rooms(TOKEN, "user_8", "private-orders.7")
    device = tenant.unique("device")
    message = {"rooms": ["private-orders.7"], "event": "shipped", "args": [{"id": 9}]}

    def visit() -> NodePage:
        source = example(_PAGE, "html", 1)
        page = pages.open(
            source, change=lambda text: text.replace("090909", device), values={"headers": {}}, after=_TELLS
        )
        page.wait_call("settings")
        return page

    def send() -> None:
        query = {"site": "newsite", "apiKey": server.key("newsite")}
        assert server.post("/send", params=query, json=message).status_code == 200

    page = visit()
    send()
    assert page.wait_call("show") == [{"id": 9}]
    page.end()
    run(server, "py")
    send()
    page = visit()
    assert [page.wait_call("handle", nth=nth) for nth in (1, 2)] == [["shipped", {"id": 7}], ["shipped", {"id": 9}]]


_TELLS = 'socket.on("_settings", () => report("settings", headers["X-Socket-ID"]));'


def test_the_settings_are_checked(server: Deployment, tmp_path: Path) -> None:
    """The command of the page takes the settings of the page."""
    (tmp_path / "sites.yml").write_text(dedent(example(_PAGE, "yaml", 1).text))
    words = example(_PAGE, "sh", 1).text.split()
    assert words[:2] == ["recado", "check-config"]
    command = [sys.executable, "-m", "app", *words[1:]]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "put-the-secret-of-the-key-here" not in done.stdout


def test_programs_name_the_settings() -> None:
    """All four programs have the id, key and secret of the settings, and the same event."""
    app = settings_of(_PAGE)["newsite"]["pusher"]
    for language in ("php", "ruby", "py", "js"):
        text = example(_PAGE, language, 1).text
        for expected in (str(app["app_id"]), app["key"], app["secret"], "private-orders.7", "shipped"):
            assert expected in text, (language, expected)
