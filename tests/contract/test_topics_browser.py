"""Topics in a browser: `fetch` streaming and `EventSource` of Chromium, and the examples of docs/topics.md."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.support.browser import Browser, Page
from tests.support.deployment import Deployment
from tests.support.topic_client import TopicBackend
from tests.support.topic_sites import topic_sites
from tests.support.waiting import eventually

DOCS = (Path(__file__).parents[2] / "docs" / "topics.md").read_text()
DOCS_KEY = "put-a-key-of-your-own-here"
#: Makes a page keep every value that it logs, so that the test can read it.
_COLLECT = "window.heard = []; console.log = (...values) => window.heard.push(...values);"


@pytest.fixture(scope="module")
def server() -> Iterator[Deployment]:
    """One node with the site of the documentation."""
    sites = topic_sites() | {"shop": {"apiKey": DOCS_KEY, "topics": {}}}
    sites["quick"]["topics"] |= {"connection_timeout": 2}
    deployment = Deployment(sites, {"log_level": "debug"})
    yield deployment
    deployment.end()


@pytest.fixture(scope="module")
def website() -> Iterator[str]:
    """A website of another origin; all its pages are empty."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>a website</title><link rel=icon href='data:,'>")

        def log_message(self, *_: Any) -> None:
            """Write nothing to stderr."""

    pages = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=pages.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{pages.server_port}/"
    pages.shutdown()
    pages.server_close()
    thread.join(5)


@pytest.fixture
def page(browser: Browser, website: str) -> Iterator[Page]:
    """A page of the website; at the end of the test it must have logged no error."""
    opened = browser.open(website)
    opened.evaluate(_COLLECT)
    yield opened
    assert opened.complaints() == []
    opened.close()


def heard(page: Page, count: int) -> list[Any]:
    """The values that the page has logged, once there are this many."""
    found: list[Any] = eventually(
        lambda: page.evaluate(f"window.heard.length >= {count} && window.heard"), f"{count} events in the page"
    )
    return found


def event_source(page: Page, url: str, *types: str) -> None:
    """Listen with EventSource to events of these types."""
    page.evaluate(
        f"window.source = new EventSource({json.dumps(url)}); for (const type of {json.dumps(types)}) "
        "window.source.addEventListener(type, (event) => window.heard.push("
        "[event.type, event.lastEventId, JSON.parse(event.data)])); 0"
    )


def scripts() -> list[str]:
    """The scripts in the documentation's pages."""
    return re.findall(r"<script[^>]*>\n(.*?)</script>", DOCS, re.DOTALL)


def commands() -> list[str]:
    """The shell commands in the documentation."""
    return re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL)


def run_script(page: Page, script: str, server: Deployment) -> None:
    """Run a script of the documentation as a module, against this server."""
    text = script.replace("http://localhost:1337", server.url)
    page.evaluate(f"import(URL.createObjectURL(new Blob([{json.dumps(text)}], {{type: 'text/javascript'}}))); 0")


def run_command(command: str, server: Deployment) -> subprocess.Popen[str]:
    """Run a command of the documentation in a shell, against this server."""
    text = command.replace("http://localhost:1337", server.url).replace("curl ", "exec curl -s ", 1)
    return subprocess.Popen(["sh", "-c", text], stdout=subprocess.PIPE, text=True, bufsize=1)


def test_examples_of_curl(server: Deployment) -> None:
    """The first two examples of the documentation run as they stand: one prints what the other emits."""
    subscribe, emit, *_ = commands()
    with run_command(subscribe, server) as reader:
        assert reader.stdout
        first = reader.stdout.read(10)
        assert first.startswith("''")
        with run_command(emit, server) as writer:
            assert writer.wait(30) == 0
        text = first
        while "12.5" not in text:
            piece = reader.stdout.read(1)
            assert piece, text
            text += piece
        reader.terminate()
    assert '"emitted":"orders/42"},"e":{"type":"paid","detail":{"total": 12.5' in text


def test_example_of_event_source(page: Page, server: Deployment) -> None:
    """The documentation's EventSource example shows an event emitted with curl."""
    run_script(page, scripts()[0], server)
    eventually(lambda: TopicBackend(server, "shop").ask("GET", "/state").json()["topics"].get("orders/#"), "the page")
    with run_command(commands()[1], server) as writer:
        assert writer.wait(30) == 0
    assert heard(page, 1) == [12.5]


def test_example_of_fetch(page: Page, server: Deployment) -> None:
    """The documentation's reader of frames shows the emitted events, wherever the network splits them."""
    shop = TopicBackend(server, "shop")
    run_script(page, scripts()[1], server)
    assert heard(page, 1)[0]["e"]["type"] == "connected"
    detail = "it's ''9'' é \U0001f600 " * 20_000
    for number in range(3):
        shop.emit("orders/1", "t", [number, detail])
    assert [event["e"]["detail"] for event in heard(page, 4)[1:]] == [[number, detail] for number in range(3)]


@pytest.mark.shows("Topics", "connect, events", client="`fetch` of Chromium", transport="streamed HTTP")
def test_fetch_sees_frames_at_once(page: Page, server: Deployment) -> None:
    """`fetch` gets each frame as it is written, also when the request's content type is JSON (after a preflight)."""
    news = TopicBackend(server, "news")
    page.evaluate(
        f"fetch({json.dumps(server.url + '/topics/news/')}, {{method: 'POST', headers: {{'content-type': "
        "'application/json'}, body: JSON.stringify({ep: ['at once'], clid: 'page'})}).then(async (answer) => {"
        "window.heard.push(answer.status);"
        "for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) window.heard.push(piece); }); 0"
    )
    assert heard(page, 2)[0] == 200
    assert "connected" in heard(page, 2)[1]
    news.emit("at once", "one")
    assert '"type":"one"' in heard(page, 3)[2]


def test_event_source(page: Page, server: Deployment) -> None:
    """EventSource gets type, id and data, and the greeting."""
    news = TopicBackend(server, "news")
    event_source(page, f"{server.url}/topics/news/stream?topic=a/b&topic=c/%23", "connected", "hello")
    assert heard(page, 1)[0][2]["e"]["detail"]["timeout"] == 60_000
    news.emit(["c/d"], "hello", {"text": "it's é \U0001f600"})
    type_, id_, value = heard(page, 2)[1]
    assert (type_, id_.isdigit(), value["ep"]) == ("hello", True, {"requested": "c/#", "emitted": "c/d"})
    assert value["e"] == {"type": "hello", "detail": {"text": "it's é \U0001f600"}}


@pytest.mark.shows(
    "Topics", "connect, events, replay", client="`EventSource` of Chromium", transport="Server-Sent Events"
)
def test_event_source_comes_back(page: Page, server: Deployment) -> None:
    """A stream ends at its time-out; EventSource reconnects by itself with Last-Event-ID and misses nothing."""
    quick = TopicBackend(server, "quick")
    event_source(page, f"{server.url}/topics/quick/stream?topic=back", "connected", "_resync", "n")
    heard(page, 1)
    quick.emit("back", "n", 0)
    heard(page, 2)
    eventually(lambda: page.evaluate("window.source.readyState") == 0, "the stream to end", 60)
    for number in range(1, 4):
        quick.emit("back", "n", number)

    def numbers() -> list[int]:
        return [entry[2]["e"]["detail"] for entry in page.evaluate("window.heard") if entry[0] == "n"]

    eventually(lambda: 3 in numbers(), "the page to be back")
    assert numbers() == [0, 1, 2, 3]
    names = [entry[0] for entry in page.evaluate("window.heard")]
    assert (names[0], names.count("connected") >= 2, "_resync" in names) == ("connected", True, False)
    page.evaluate("window.source.close()")
    # The end of the stream is not an error of the page.
    page.evaluate("0")


def test_origins(browser: Browser, website: str, server: Deployment) -> None:
    """A page of an origin that the site does not list can read nothing."""
    page = browser.open(website)
    try:
        answer = page.evaluate(
            f"fetch({json.dumps(server.url + '/topics/narrow/')}, {{method: 'POST', body: '{{\"ep\":[\"a\"]}}'}})"
            ".then(() => 'read', () => 'refused')"
        )
        assert answer == "refused"
    finally:
        page.close()
    assert TopicBackend(server, "narrow").ask("GET", "/connections").json()["@TOTAL@"] == 0
