"""Every example of README.md and docs/ is run or checked; an example that cannot run is listed with the reason."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.webhooks.event import post_body, read_event
from tests.demo.conftest import DemoServer
from tests.docs.conftest import TOKEN, Pages, settings_of, shape
from tests.support.channels import Subscription
from tests.support.clients import ACK_NONE, PYTHON_KINDS, ConnectCall
from tests.support.configuration import load_config
from tests.support.connector import Drivers
from tests.support.deployment import Deployment
from tests.support.examples import Example, all_examples, example
from tests.support.ports import free_port
from tests.support.processes import REPOSITORY, ChildProcess
from tests.support.tenant import Answer, Tenant
from tests.support.topic_client import TopicBackend
from tests.support.waiting import eventually

Run = Callable[[str], str]

#: Example -> why no test here runs it.
NOT_RUN = {
    "docs/webhooks.md sh 1": "tests/faults/test_webhooks.py runs the commands",
    "README.md sh 1": "clones and installs; scripts/serve is what tests/demo starts, scripts/test runs this",
    "README.md sh 4": "installs into the reader's environment",
    "docs/tracing.md sh 1": "installs into the reader's environment",
    "docs/tracing.md  1": "a picture",
    "docs/scaling.md sh 1": "takes minutes; tests/bench/test_large.py runs the scenario in miniature",
    "docs/scaling.md sh 2": "tests/bench/test_simulate.py runs the command",
    "docs/scaling.md py 1": "tests/bench/test_simulate.py runs the function",
    "docs/doctor.md sh 1": "tests/doctor/test_examination.py runs the command",
    "docs/doctor.md text 1": "the output of a command",
    "docs/kubernetes.md sh 1": "needs a cluster; tests/deploy/test_kubernetes.py reads the manifests and the chart",
    "docs/systemd.md sh 1": "changes the machine; tests/deploy/test_units.py reads the units",
    "docs/releasing.md sh 1": "the tests themselves",
    "docs/releasing.md sh 2": "for a release",
    "docs/releasing.md sh 3": "for a release; tests/test_wheel.py builds the wheel",
    "docs/releasing.md sh 4": "needs Docker; tests/deploy/test_release.py reads the recipe",
    "docs/deployment.md sh 1": "installs into the reader's environment",
    "docs/deployment.md sh 2": "sets variables for a node; tests/docs/test_configuration.py knows their names",
    "docs/deployment.md sh 3": "needs Docker",
    "docs/deployment.md sh 4": "needs Docker",
    "docs/tutorial.md sh 1": "installs into the reader's environment",
    **{f"docs/tutorial.md sh {number}": "tests/docs/test_tutorial.py, in their order" for number in range(2, 9)},
    **{f"docs/tutorial.md {language} 1": "tests/docs/test_tutorial.py writes the file" for language in ("py", "html")},
    "docs/messenger.md text 1": "tests/commands/test_users.py: asks for a password",
    "docs/messenger.md text 2": "tests/contract/test_messenger_account.py: a server that is set up by the environment",
    "docs/clients.md html 1": "tests/docs/test_recado_client.py: a page in a browser",
    "docs/clients.md json 1": "tests/protocols/sites/test_receiver.py: a packet",
    "docs/recado-client.md html 1": "tests/docs/test_recado_client.py: a page in a browser",
    "docs/recado-client.md js 1": "tests/docs/test_recado_client.py: a page in a browser",
    "docs/recado-client.md js 2": "tests/docs/test_recado_client.py: a page in a browser",
    "docs/recado-client.md sh 1": "tests/clients_js/test_package.py: installs into the reader's project",
    "docs/console.md sh 1": "tests/commands/test_operators.py: asks for a password",
    "docs/journal.md  1": "a picture",
    "docs/journal.md sh 1": "tests/node/test_journal_process.py: a process without end",
    "docs/load.md sh 1": "tests/load/test_load.py runs the commands, with a token of its own",
    "docs/tls.md sh 1": "tests/contract/test_tls.py starts such servers, with files of its own",
    "docs/tls.md  1": "the output of a command",
    "docs/messenger.md html 1": "tests/protocols/messenger/test_demo_page.py: a page in a browser",
    "docs/messenger.md js 1": "tests/contract/test_messenger_beside.py: a page in a browser",
    "docs/outbox.md sh 1": "tests/faults/test_outbox.py: a process without end, on a PostgreSQL of its own",
    "docs/outbox.md sh 2": "tests/commands/test_outbox.py runs the commands, on a PostgreSQL of its own",
    "docs/outbox.md sql 1": "tests/outbox/test_tables.py calls the function, in PostgreSQL",
    "docs/outbox.md ruby 1": "needs Rails; tests/outbox/test_tables.py calls the function",
    "docs/outbox.md php 1": "needs Laravel; tests/outbox/test_tables.py calls the function",
    "docs/outbox.md py 1": "needs Django; tests/outbox/test_tables.py calls the function",
    "docs/topics.md sh 1": "tests/contract/test_topics_browser.py: a stream without end",
    "docs/topics.md sh 2": "tests/contract/test_topics_browser.py, beside the stream",
    "docs/topics.md html 1": "tests/contract/test_topics_browser.py: EventSource of a browser",
    "docs/topics.md html 2": "tests/contract/test_topics_browser.py: fetch of a browser",
}
#: Examples that a test of their own runs.
STORIES = {
    "docs/webhooks.md json 1",
    "docs/webhooks.md py 1",
    "README.md html 1",
    "docs/backends.md json 1",
    "docs/backends.md json 2",
    "docs/channels.md html 1",
    "docs/channels.md js 1",
    "docs/channels.md json 1",
    "docs/channels.md json 2",
    "docs/channels.md sh 1",
    "docs/channels.md sh 2",
    "docs/clients.md html 2",
    "docs/clients.md js 1",
    "docs/clients.md js 2",
    "docs/clients.md js 3",
    "docs/delivery.md json 1",
    "docs/delivery.md sh 1",
    "docs/messenger.md py 1",
    "docs/presence.md html 1",
    "docs/presence.md json 1",
    "docs/redis-publish.md html 1",
    "docs/redis-publish.md json 1",
    "docs/redis-publish.md sh 1",
    "docs/topics.md json 1",
    "docs/tokens.md html 1",
    "docs/tokens.md py 1",
}
EXAMPLES = [one for one in all_examples() if str(one) not in NOT_RUN and str(one) not in STORIES]
SETTINGS = [one for one in EXAMPLES if one.language == "yaml"]
COMMANDS = [one for one in EXAMPLES if one.language == "sh"]

SEND = example("docs/backends.md", "sh", 1)
PAGE = example("docs/clients.md", "html", 2)
#: The last line of the page, which differs by the client's version.
_REFUSED = PAGE.text.splitlines()[-2].strip()
_TELLS_SETTINGS = 'socket.on("_settings", (settings) => report("settings", settings));'


def test_every_example_is_run_or_listed() -> None:
    """An example is settings, a command, told in a story, or listed with a reason; the lists name only examples."""
    assert [str(one) for one in EXAMPLES if one not in SETTINGS and one not in COMMANDS] == []
    assert (STORIES | NOT_RUN.keys()) - {str(one) for one in all_examples()} == set()
    here = (REPOSITORY / "tests" / "docs" / "test_examples.py").read_text()
    tests = {path for reason in NOT_RUN.values() for path in re.findall(r"tests/\S+\.py", reason)}
    assert [path for path in tests if not (REPOSITORY / path).exists()] == []
    assert [name for name in STORIES if not _is_named(name, here)] == []


def _is_named(name: str, source: str) -> bool:
    page, language, number = name.split()
    return f'"{page}", "{language}", {number}' in source


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_settings_are_loaded(settings: Example, tmp_path: Path) -> None:
    """An example in YAML is a config.yml, where its first line says so, or else a sites.yml that the server takes."""
    is_server = settings.text.startswith("# config.yml")
    file = tmp_path / ("config.yml" if is_server else "sites.yml")
    (tmp_path / "newsite-key").write_text("a key from a file\n")
    file.write_text(settings.text.replace("/run/secrets", str(tmp_path)))
    config = load_config(file if is_server else None, None if is_server else file, {"AUTH_HOST": "auth.example.com"})
    assert is_server or config.sites


@pytest.mark.parametrize("commands", COMMANDS, ids=str)
def test_commands_run(commands: Example, run: Run, server: Deployment) -> None:
    """A shell example succeeds as it stands, with another address; the answer of /send and /tickets is `OK`."""
    printed = run(commands.text)
    expected = len(re.findall(r"curl .*/(?:send|tickets)\?", commands.text))
    assert printed.count("OK") >= expected


def test_presence_of_a_page(pages: Pages, run: Run, tenant: Tenant) -> None:
    """The page shows its own user, and the answer of GET /presence is of the form of the example."""
    tenant.set_rooms(TOKEN, *json.loads(example("docs/backends.md", "json", 1).text))
    page = example("docs/presence.md", "html", 1)
    opened = pages.open(page, change=lambda text: text.replace('"d1"', f'"{tenant.unique("device")}"'))
    count, users = opened.wait_call("show")
    assert (count, users) == (1, ["user_8"])
    shown = json.loads(run(example("docs/presence.md", "sh", 1).text))
    assert shape(shown) == shape(json.loads(example("docs/presence.md", "json", 1).text))
    assert [one["user"] for one in shown["users"]] == users


@pytest.mark.parametrize("page", [example("README.md", "html", 1), PAGE], ids=str)
def test_page_receives_and_acknowledges(page: Example, pages: Pages, run: Run, tenant: Tenant) -> None:
    """The page shows a live message and, in a `_batch`, one sent in its absence. It acknowledges both, so each arrives
    once."""
    tenant.set_rooms(TOKEN, *json.loads(example("docs/backends.md", "json", 1).text))
    device = tenant.unique("device")

    def visit() -> Any:
        opened = pages.open(page, change=lambda text: text.replace("090909", device), after=_TELLS_SETTINGS)
        assert opened.wait_call("settings")[0]["device_ttl"] == 3600
        return opened

    first = visit()
    run(SEND.text)
    assert first.wait_call("show") == [{"id": 3}]
    first.end()
    run(SEND.text)
    second = visit()
    assert second.wait_call("handle") == ["news", [{"id": 3}]]
    run(SEND.text)
    second.wait_call("show")
    second.end()
    third = visit()
    run(SEND.text)
    third.wait_call("show")
    assert third.names() == ["settings", "show"]


@pytest.mark.parametrize("page", [example("README.md", "html", 1), PAGE], ids=str)
def test_page_on_a_site_without_user_rooms(page: Example, pages: Pages, run: Run, tenant: Tenant) -> None:
    """The page also works on a site without userRoomPrefix, whose events have no acknowledging function."""
    tenant.set_rooms(TOKEN, *json.loads(example("docs/backends.md", "json", 1).text))
    opened = pages.open(page, change=lambda text: text.replace("newsite", "plain"), after=_TELLS_SETTINGS)
    opened.wait_call("settings")
    for _ in range(2):
        run(SEND.text.replace("newsite", "plain"))
    assert [opened.wait_call("show", nth=nth) for nth in (1, 2)] == [[{"id": 3}], [{"id": 3}]]


@pytest.mark.parametrize(
    ("version", "line"),
    [
        (4, _REFUSED),
        (3, example("docs/clients.md", "js", 1).text),
        (2, example("docs/clients.md", "js", 2).text),
        (1, example("docs/clients.md", "js", 2).text),
    ],
)
def test_refused_page_connects_again(version: int, line: str, pages: Pages, tenant: Tenant) -> None:
    """With the line for its version a page that is refused tries again until it is let in."""
    token = tenant.token(Answer(403))

    def change(text: str) -> str:
        assert _REFUSED in text
        return text.replace(_REFUSED, line).replace(TOKEN, token)

    page = pages.open(PAGE, version=version, change=change, after=_TELLS_SETTINGS)
    eventually(lambda: len(tenant.requests_of(token)) >= 2, "a second try")
    tenant.set_rooms(token, "user_8")
    page.wait_call("settings")


def test_resume_tickets(pages: Pages, tenant: Tenant) -> None:
    """The three lines keep a ticket, with which the page reconnects without a request to authUrl."""
    user = tenant.user()
    after = _TELLS_SETTINGS + 'socket.on("_settings", () => report("ticket", ticket));' + _RECONNECTS
    values = {"token": user.token, "deviceId": "phone"}
    page = pages.open(example("docs/clients.md", "js", 3), values=values, after=after)
    page.wait_call("settings", nth=2)
    assert page.wait_call("ticket") == [page.wait_call("settings")[0]["resume_ticket"]]
    assert len(tenant.requests_of(user.token)) == 1


_RECONNECTS = 'socket.once("_settings", () => setTimeout(() => socket.disconnect().connect(), 10));'


def test_tokens(pages: Pages, run: Run, tmp_path: Path) -> None:
    """The program makes a token with which the page gets in, and the message of the command arrives."""
    program = tmp_path / "token.py"
    program.write_text(example("docs/tokens.md", "py", 1).text)
    token = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=True).stdout.strip()
    fetches = 'fetch("/push-token").then((answer) => answer.text())'
    source = example("docs/tokens.md", "html", 1)
    assert fetches in source.text
    after = _TELLS_SETTINGS + 'socket.on("connect_error", (error) => report("refused", error.message));'
    page = pages.open(source, change=lambda text: text.replace(fetches, f'Promise.resolve("{token}")'), after=after)
    page.wait_call("settings")
    run(example("docs/tokens.md", "sh", 1).text)
    assert page.wait_call("show") == [{"id": 3}]


def test_messenger_beside_a_backend(tenant: Tenant, tmp_path: Path) -> None:
    """The program comes in with the token of its backend, and reads what it has written."""
    settings = settings_of("docs/messenger.md", 2)["shop"] | {"authUrl": f"{tenant.url}/shop/rooms"}
    token = tenant.token(Answer(body=b'["user_ana", "Orders"]'))
    server = Deployment({"shop": settings}, environment={"DATABASE_URL": f"sqlite:///{tmp_path / 'journal.sqlite'}"})
    try:
        text = example("docs/messenger.md", "py", 1).text
        assert "the token of ana" in text
        text = text.replace("http://127.0.0.1:1337", server.url).replace("the token of ana", token)
        (tmp_path / "program.py").write_text(text)
        told = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    finally:
        server.end()
    first, accepted, history = told.stdout.splitlines()
    assert first == "I am ana"
    assert "'ok': True" in accepted
    assert "'from': 'ana', 'to': {'room': 'orders'}" in history


def test_update_user_url(pages: Pages, tenant: Tenant) -> None:
    """The request to updateUserUrl has the path and the form that the page shows."""
    user = tenant.user()
    pages.open(PAGE, change=lambda text: text.replace(TOKEN, user.token))
    request = tenant.wait_for_update(user.token, "last_connected")
    shown = json.loads(example("docs/backends.md", "json", 2).text)
    assert request.path == f"/users/{user.id}"
    assert request.body["id"] == user.id
    assert shape(request.body) == shape(shown)
    moment = request.body["user"]["last_connected"]
    assert re.sub(r"\d", "0", moment) == re.sub(r"\d", "0", shown["user"]["last_connected"])


def test_channels(pages: Pages, run: Run, server: Deployment) -> None:
    """The commands create a channel and push; the page and the served client print it; messages have the form shown."""
    created = json.loads(run(example("docs/channels.md", "sh", 1).text))
    token = created["data"]["channelToken"]
    page = pages.open(example("docs/channels.md", "html", 1))
    module = example("docs/channels.md", "js", 1)
    client = pages.load("/channels/shop/client.js")
    subscribed = module.text.replace("onstate: (state) => {}", "onstate: (state) => report(state)")
    subscribed = subscribed.replace("channels.close();", "")
    second = pages.open(Example(module.page, "js", 1, f"{client.text};{subscribed}"))
    with Subscription(server.url, "shop") as subscriber:
        shown = [json.loads(example("docs/channels.md", "json", 1).text)]
        shown.append(json.loads(example("docs/channels.md", "json", 2).text))
        assert shape(subscriber.ack) == shape(shown[0])
        subscriber.subscribe("news")
        second.wait_call("open")
        push = example("docs/channels.md", "sh", 2).text.replace("TOKEN", token)
        eventually(lambda: _pushed(run, push) and "log" in page.names() and "show" in second.names(), "the pushes")
        assert shape(subscriber.receive()) == shape(shown[1])
    assert page.wait_call("log") == ["hello"]
    assert second.wait_call("show") == ["hello"]


def _pushed(run: Run, push: str) -> bool:
    """Push once more: a page may have connected and not subscribed yet."""
    return bool(json.loads(run(push))["message"] == "Sent")


def test_delivery(drivers: Drivers, run: Run, tmp_path: Path) -> None:
    """The commands send a message, show it in the form of the page at each device, take it out of the queue, and show
    what the webhook has told."""
    demo = DemoServer(DATABASE_URL=f"sqlite:///{tmp_path / 'journal.sqlite'}")
    try:
        query = {"site": "demo", "apiKey": "demo"}
        messages = f"{demo.url}/messages"
        eventually(lambda: httpx.get(messages, params=query).status_code == 200, "the journal to begin", 60)
        device = {"token": "alice", "deviceId": "090909"}
        client = drivers.python.connect(ConnectCall(PYTHON_KINDS[0], demo.url, "demo", device, ack=ACK_NONE))
        client.wait_event("_settings")
        text = example("docs/delivery.md", "sh", 1).text.replace("http://127.0.0.1:1337", demo.url)
        # The journal of a machine that is very busy may be more than 2 s behind: then the answer says so, and has less.
        for _ in range(10):
            if '"partial"' not in (printed := run(text)):
                break
        client.forget()
    finally:
        demo.end()
    answer, end = json.JSONDecoder().raw_decode(printed)
    waited, last = json.JSONDecoder().raw_decode(rest := printed[end:].lstrip())
    assert (waited["recipients"], waited["acked"], waited["waiting"]) == (1, 0, 1)
    withdrawn, events = rest[last:].strip().partition("[")[::2]
    assert withdrawn == "OK 1OK"
    event = [one for one in json.loads("[" + events) if one["type"].startswith("message.")][-1]
    assert (event["type"], event["event"]) == ("message.unacknowledged", "news")
    assert [user["user"] for user in event["users"]] == ["user_alice"]
    shown = json.loads(example("docs/delivery.md", "json", 1).text)
    assert shape(answer["summary"]) == shape(shown["summary"])
    assert answer.keys() == shown.keys()
    (row,) = answer["devices"]
    assert (row["user"], row["device"]) == ("user_alice", "090909")
    assert row.keys() <= shown["devices"][0].keys()


def test_topics(server: Deployment) -> None:
    """A frame of a stream has the form that the page shows."""
    shown = json.loads(example("docs/topics.md", "json", 1).text)
    shop = TopicBackend(server, "shop")
    with shop.subscribe("orders/#") as stream:
        shop.emit("orders/42", shown["e"]["type"], shown["e"]["detail"])
        frame = stream.wait_type(shown["e"]["type"])
    assert {key: frame[key] for key in ("ep", "e")} == {key: shown[key] for key in ("ep", "e")}
    assert shape(frame) == shape(shown)


def test_redis_publish(pages: Pages, run: Run, server: Deployment) -> None:
    """The commands leave a message for a user; the page gets it, in the form shown, and what is published then."""
    run(example("docs/redis-publish.md", "sh", 1).text)
    waiting = server.redis.client
    name = "rm:users:user1:messages"
    eventually(lambda: waiting.llen(name), "the message to wait")
    (entry,) = [json.loads(text) for text in waiting.lrange(name, 0, -1)]
    shown = json.loads(example("docs/redis-publish.md", "json", 1).text)
    assert shape(entry) == shape({key: shown[key] for key in entry})
    page = pages.open(
        example("docs/redis-publish.md", "html", 1),
        after='socket.on("message", (message) => report("message", message));',
    )
    assert page.wait_call("log") == ["Hello!"]
    assert shape(page.wait_call("message")[0]) == shape(shown)
    run("redis-cli PUBLISH rm.users.user1 'Again!'")
    assert page.wait_call("log", nth=2) == ["Again!"]


def test_webhooks(tmp_path: Path, tenant: Tenant) -> None:
    """The receiver as it stands accepts the requests of a server with the settings shown."""
    (tmp_path / "receiver.py").write_text(example("docs/webhooks.md", "py", 1).text)
    port = free_port()
    receiver = ChildProcess("receiver", [sys.executable, "receiver.py", str(port)], tmp_path, dict(os.environ))
    newsite = settings_of("docs/webhooks.md")["newsite"]
    newsite["webhook"] |= {"url": f"http://127.0.0.1:{port}/", "allow_private": True}
    server = Deployment({"newsite": newsite})
    try:
        query = {"site": "newsite", "apiKey": newsite["apiKey"]}
        tested = eventually(lambda: _tested(server, query), "the receiver to listen")
        assert tested["status"] == 204
        receiver.lines.wait_for(lambda line: line == "webhook.test None", "the receiver to print the event")
    finally:
        server.end()
        receiver.end()


def _tested(server: Deployment, query: dict[str, str]) -> Any:
    attempt = server.post("/webhooks/test", params=query).json()["attempt"]
    return attempt if attempt["status"] else None


def test_a_webhook_has_the_form_shown() -> None:
    """A request with the events shown is, but for spaces, the JSON shown."""
    shown = json.loads(example("docs/webhooks.md", "json", 1).text)
    events = []
    for event in shown["data"]["events"]:
        at = str(int(datetime.fromisoformat(event["at"]).timestamp() * 1000))
        data = json.dumps({name: event[name] for name in ("user", "devices")})
        words = {"seq": str(event["seq"]), "type": event["type"], "at": at, "user": event["user"], "data": data}
        events.append(read_event(b"1-1", [word.encode() for pair in words.items() for word in pair]))
    now_ms = int(datetime.fromisoformat(shown["timestamp"]).timestamp() * 1000)
    assert json.loads(post_body(events, now_ms)) == shown
