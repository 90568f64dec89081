"""The pages with `recado-client` in docs/, in Chromium: they receive, and their messages take effect once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.docs.conftest import TOKEN, here
from tests.support.browser import Browser, Page
from tests.support.deployment import Deployment
from tests.support.examples import Example, example
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

Run = Callable[[str], str]

SEND = example("docs/backends.md", "sh", 1)
_LIBRARY = '<script src="/socket.io/socket.io.js?v=4"></script>'
#: The functions that the examples leave to their reader.
_READERS = f"""
    globalThis.shown = [];
    globalThis.show = (item) => {{ shown.push(item); }};
    globalThis.fetchEverything = () => {{}};
    const fetched = fetch;
    globalThis.fetch = (url) => url === "/push-token" ? Promise.resolve({{ text: () => "{TOKEN}" }}) : fetched(url);
"""


@pytest.fixture
def page(server: Deployment, browser: Browser, tenant: Tenant) -> Iterator[Page]:
    """A tab of a user of the documentation, who was never there."""
    tenant.set_rooms(TOKEN, *json.loads(example("docs/backends.md", "json", 1).text))
    page = browser.open(f"{server.url}/healthcheck")
    yield page
    assert page.complaints() == []
    page.close()


def load(page: Page, text: str, server: Deployment) -> None:
    """Make an example the content of the tab, and wait until the site knows its device."""
    text = here(text, server).replace('"recado-client"', f'"{server.url}/recado/client.js"')
    page.evaluate(f"document.open(); {_READERS}; document.write({json.dumps(text)}); document.close()")
    query = {"site": "newsite", "apiKey": server.key("newsite"), "user": "user_8"}

    def is_there() -> bool:
        device = page.evaluate("localStorage.recadoDevice || sessionStorage.recadoDevice")
        found = server.get("/devices", params=query).json().get("devices", [])
        return any(one["device"] == device and one["connected_since"] for one in found)

    eventually(is_there, "the page's device", 60)


@pytest.mark.parametrize(
    "shown",
    [
        example("docs/clients.md", "html", 1),
        example("docs/recado-client.md", "html", 1),
        example("docs/recado-client.md", "js", 1),
    ],
    ids=str,
)
def test_the_page_shows_what_is_sent(shown: Example, page: Page, run: Run, server: Deployment) -> None:
    """The page gets a message, and acknowledges it."""
    is_module = shown.language == "js"
    load(page, f'{_LIBRARY}<script type="module">{shown.text}</script>' if is_module else shown.text, server)
    run(SEND.text)
    eventually(lambda: page.evaluate("shown") == [{"id": 3}], "the message", 60)


def test_the_page_with_a_database(page: Page, run: Run, server: Deployment) -> None:
    """The page keeps a message in its database, beside the message's position."""
    module = example("docs/recado-client.md", "js", 2).text
    load(page, f'{_LIBRARY}<script type="module">{module}; globalThis.opened = opened;</script>', server)
    run(SEND.text)
    read = """
        opened.then((database) => new Promise((resolve) => {
            const transaction = database.transaction(["items", "recado"]);
            const items = transaction.objectStore("items").getAll();
            const keys = transaction.objectStore("recado").getAllKeys();
            transaction.oncomplete = () => resolve([items.result, keys.result.filter(([, key]) => key > 1).length]);
        }))
    """
    eventually(lambda: page.evaluate(read) == [[{"id": 3}], 1], "the item and its position", 60)
