"""The client for pages in Chromium, against a server that stands in the page: its database, repeats and refusals."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from scramp.utils import ScramException, saslprep

from tests.support.browser import Browser, Page
from tests.support.deployment import Deployment
from tests.support.processes import REPOSITORY

#: The most bytes of the client, packed.
MOST_BYTES = 8 * 1024
_FAKE = (Path(__file__).parent / "fake_socket.js").read_text()
_SOURCE = REPOSITORY / "app/protocols/messenger/client"
_storages = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Deployment]:
    """A server that has no messenger: the client is served all the same."""
    deployment = Deployment({"shop": {"authUrl": "http://127.0.0.1:9/rooms", "apiKey": "k"}})
    yield deployment
    deployment.end()


@pytest.fixture(scope="module")
def page(server: Deployment, browser: Browser) -> Iterator[Page]:
    """An empty page of the server, with the stand-in."""
    tab = browser.open(f"{server.url}/healthcheck")
    tab.evaluate(f"{_FAKE}; 0")
    yield tab
    assert tab.complaints() == []
    tab.close()


@pytest.fixture(autouse=True)
def fresh(page: Page) -> None:
    """The stand-in of each test knows nothing."""
    page.evaluate("Object.assign(fake, {asked: [], answers: {}, sockets: []}); 0")


def run(page: Page, body: str, **values: Any) -> Any:
    """Run JavaScript with the client's names, a `chat` of its own where it asks for one, and these values."""
    given = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
    chat = f"const chat = await fake.messenger('{next(_storages)}');" if "chat" in body else ""
    return page.evaluate(
        f"(async () => {{ const recado = await import('/recado/messenger.js'); {given} {chat} {body} }})()"
    )


def test_size(server: Deployment) -> None:
    """Packed with gzip the client has less than 8 KB, and comes as a script that any page may load."""
    answer = httpx.get(f"{server.url}/recado/messenger.js")
    assert len(gzip.compress(answer.content, 6)) < MOST_BYTES
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["access-control-allow-origin"] == "*"
    again = httpx.get(f"{server.url}/recado/messenger.js", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_types_name_what_there_is(server: Deployment, page: Page) -> None:
    """The types beside the client name every export, and every member of a messenger."""
    types = httpx.get(f"{server.url}/recado/messenger.d.ts").text
    declared = set(re.findall(r"^export (?:class|function) (\w+)", types, re.MULTILINE))
    assert declared == set(run(page, "return Object.keys(recado)"))
    members = re.search(r"export class Messenger \{\n(.*?)\n\}", types, re.DOTALL)
    assert members
    named = set(re.findall(r"^  (?:readonly )?(\w+)[(:<]", members[1], re.MULTILINE))
    methods = "Object.getOwnPropertyNames(recado.Messenger.prototype)"
    assert named == set(run(page, f"return [...{methods}, ...Object.keys(new recado.Messenger({{site: 's'}}))]"))


# SCRAM


def test_vectors_of_rfc_7677(page: Page) -> None:
    """The login of the example in RFC 7677 has the messages shown there, and the server's signature is checked."""
    first, final, wrong = run(
        page,
        """
        const scram = new recado.Scram("user", "pencil", "rOprNGfwEbeRWgbNEkqO");
        const final = await scram.final(
          "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        scram.check("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        const refused = [];
        for (const word of ["v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", "e=other-error", ""]) {
          try { scram.check(word); } catch (error) { refused.push(error.code); }
        }
        return [scram.first, final, refused];
        """,
    )
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    assert first == "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert final == f"c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert wrong == ["wrong_server"] * 3


@pytest.mark.parametrize(
    "answer",
    [
        "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "r=mine,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "r=mineAndMore,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
        "r=mineAndMore,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=9000000",
        "r=mineAndMore,s=,i=4096",
        "e=unknown-user",
        "",
    ],
)
def test_a_wrong_server_gets_no_proof(page: Page, answer: str) -> None:
    """A server whose nonce is not new, or whose keys would be weak or endless to compute, gets no proof."""
    body = """
        const scram = new recado.Scram("user", "pencil", "mine");
        try { return await scram.final(answer); } catch (error) { return error.code; }
    """
    assert run(page, body, answer=answer) == "wrong_server"


def test_another_password_has_the_salt_of_the_one_before(page: Page) -> None:
    """The keys of a new password are made with the salt that the login's answer has named, so that strangers who ask
    for the login see no change."""
    body = """
        const salt = "W22ZaJ0SNY7soEsUEjb6gQ==";
        fake.answers.login = ({ data }) => ({ ok: true, data: `${data.slice(data.indexOf("r="))}X,s=${salt},i=4096` });
        fake.answers.password = () => ({ ok: true, data: "v=AAAA" });
        await chat.changePassword("old one", "new one").catch((error) => error);
        const { salt: kept, iterations, stored_key } = fake.of("password")[0];
        const bytes = Uint8Array.from(atob(salt), (one) => one.charCodeAt(0));
        const keys = await recado.newKeys("new one", iterations, bytes);
        const other = await recado.newKeys("new one", iterations);
        return [kept === salt, keys.stored_key === stored_key, other.salt === salt, iterations];
    """
    assert run(page, body) == [True, True, False, 600_000]


def test_saslprep_is_that_of_the_server(page: Page) -> None:
    """Texts are prepared, and harmful ones refused, as the server's library does it."""
    texts = [
        "user",
        "I\u00adX",
        "\u2168",
        "ª",
        "a\u00a0b\u3000c",
        "é",
        "e\u0301",
        "ﬁ",
        "\u200bx\ufeff",
        "",
        "Å",
        "\u1680",
    ]
    refused = ["a\u0007", "\u202ex", "x\ue000", "\ufffd", "\x7f", "\u2028"]
    expected: list[str | None] = [saslprep(text) for text in texts]
    for text in refused:
        with pytest.raises(ScramException):
            saslprep(text)
    body = "return texts.map((text) => { try { return recado.saslprep(text); } catch { return null; } })"
    assert run(page, body, texts=texts + refused) == expected + [None] * len(refused)


# The database of the browser


MESSAGE = {"id": 5, "from": 8, "to": {"user": 7}, "kind": "text", "text": "hello", "at": 1, "info": {}}


def test_a_message_is_kept_before_it_is_acknowledged(page: Page) -> None:
    """The acknowledgement follows the commit: one that cannot be stored is not acknowledged, and what follows is."""
    body = """
        const lost = chat.socket.bring("message", { ...message, id: { no: "key" } });
        const kept = await chat.socket.bring("message", message);
        const other = new Promise((resolve) => setTimeout(resolve, 0, "not acknowledged"));
        return [await Promise.race([lost, other]), kept, await chat.messages({ user: 8 }),
          chat.told.filter(([event]) => event === "error" || event === "messages").map(([event]) => event)];
    """
    lost, kept, messages, told = run(page, body, message=MESSAGE)
    assert (lost, kept) == ("not acknowledged", "acknowledged")
    assert messages == [{**MESSAGE, "conversation": "u8", "unread": "u8", "receipts": []}]
    assert told == ["error", "messages"]


def test_repeats_are_dropped(page: Page) -> None:
    """A repeat in whatever way tells nothing; a change counts once, an older one and one of a deleted message never."""
    body = """
        const change = { ...message, text: "changed", changed_at: 9 };
        await chat.socket.bring("message", message);
        await chat.socket.bring("_batch", [["message", message], ["message_changed", change], ["message", message]]);
        await chat.socket.bring("message_changed", { ...change, text: "older", changed_at: 8 });
        const texts = (await chat.messages({ user: 8 })).map((one) => one.text);
        await chat.socket.bring("message_changed", { id: 5, to: { user: 7 }, deleted: true });
        await chat.socket.bring("message", message);
        await chat.socket.bring("message_changed", { ...change, changed_at: 20 });
        const told = chat.told.filter(([event]) => event === "messages").flatMap(([, list]) => list);
        return [texts, await chat.messages({ user: 8 }), told.map((one) => one.deleted ?? one.text)];
    """
    assert run(page, body, message=MESSAGE) == [["changed"], [], ["hello", "changed", True]]


def test_a_sync_ends_with_its_last_part(page: Page) -> None:
    """A synchronisation asks with the cursor of each part for the next one; the last cursor is kept, so that the
    next one, after `_resync`, goes on from there. Its time is told."""
    body = """
        const next = { 1: ["a", false], a: ["b", true], b: ["c", false], c: ["d", false] };
        fake.answers.sync = ({ cursor }) => ({ ok: true, cursor: next[cursor][0], more: next[cursor][1] });
        await chat.sync();
        await chat.sync();
        const again = new Promise((resolve) => chat.on("synced", resolve));
        chat.socket.any("_resync");
        await again;
        return [fake.of("sync").map((data) => data.cursor), fake.of("synced").every((data) => data.ms >= 0)];
    """
    assert run(page, body) == [[None, "1", "a", "b", "c"], True]


def test_reference_data_and_presence(page: Page) -> None:
    """Users and rooms are known after a sync, changes come by `directory`; the messages of a room that was left go."""
    body = """
        fake.answers.sync = () => ({ ok: true, cursor: "2", more: false, online: [8],
          users: [{ id: 7, name: "Anna" }, { id: 8, name: "Ben" }], rooms: [{ id: 3, name: "Lunch" }],
          messages: [{ ...message, to: { room: 3 } }], receipts: [] });
        await chat.sync();
        const before = [[...chat.users.keys()], [...chat.rooms.keys()], [...chat.online],
          (await chat.messages({ room: 3 })).length];
        await chat.socket.bring("presence", { user: 8, state: "away", at: 1 });
        const left = { rooms: [{ id: 3, deleted: true }], users: [{ id: 8, name: "Benjamin" }] };
        await chat.socket.bring("directory", left);
        return [before, [chat.users.get(8).name, chat.rooms.size, chat.online.size],
          (await chat.messages({ room: 3 })).length];
    """
    before, after, left = run(page, body, message=MESSAGE)
    assert before == [[7, 8], [3], [8], 1]
    assert (after, left) == (["Benjamin", 0, 0], 0)


def test_another_event_is_acknowledged(page: Page) -> None:
    """An event that a backend sends to the user by /send reaches the page, and does not come again."""
    body = """
        const answers = [await chat.socket.bring("news", 1, "two"), await chat.socket.bring("_batch", [["news", 3]])];
        return [answers, chat.told.filter(([event]) => event === "event")];
    """
    assert run(page, body) == [["acknowledged"] * 2, [["event", "news", [1, "two"]], ["event", "news", [3]]]]


def test_a_message_is_repeated_with_its_id(page: Page) -> None:
    """A message whose answer was lost with the connection is sent again with its id after the reconnect, before the
    next one; both are kept, and nothing waits any more."""
    body = """
        const sent = [chat.send({ user: 8 }, "one"), chat.send({ user: 8 }, "two", { file: { id: "f", name: "n" } })];
        while (!fake.of("message").length) await new Promise((resolve) => setTimeout(resolve, 0));
        const waiting = (await chat.outgoing()).map((one) => one.text);
        chat.socket.drop("transport close");
        fake.answers.message = ({ text }) => ({ ok: true, id: text === "one" ? 11 : 12, at: 5 });
        chat.socket.connect();
        const accepted = await Promise.all(sent);
        const asked = fake.of("message");
        const kept = await chat.messages({ user: 8 });
        return [waiting, accepted, asked.map((one) => [one.text, one.file]), asked[0].id === asked[1].id,
          kept.map((one) => [one.id, one.from, one.text]), await chat.outgoing()];
    """
    waiting, accepted, asked, is_same, kept, left = run(page, body)
    assert waiting == ["one", "two"]
    assert [one["id"] for one in accepted] == [11, 12]
    assert (asked, is_same) == ([["one", None], ["one", None], ["two", "f"]], True)
    assert kept == [[11, 7, "one"], [12, 7, "two"]]
    assert left == []


def test_a_refused_message_is_told_once(page: Page) -> None:
    """A refusal rejects the promise with the server's code, and the message is not tried again."""
    body = """
        fake.answers.message = () => ({ ok: false, error: { code: "not_member", message: "No." } });
        const code = await chat.send({ room: 9 }, "x").catch((error) => error.code);
        const told = chat.told.filter(([event]) => event === "failed");
        return [code, await chat.outgoing(), fake.of("message").length, told.length];
    """
    assert run(page, body) == ["not_member", [], 1, 1]


def test_receipts_go_in_batches(page: Page) -> None:
    """Messages that were read are told once, own ones never; while offline the receipts wait."""
    body = """
        fake.answers.receipts = () => ({ ok: true });
        const sent = [5, 6, 9].map((id) => ({ ...message, id, from: id === 9 ? 7 : 8 }));
        await chat.socket.bring("_batch", sent.map((one) => ["message", one]));
        chat.socket.drop("transport close");
        await chat.read([5, 9, 4]);
        chat.socket.connect();
        await chat.read([5, 6]);
        while (!fake.of("receipts").length) await new Promise((resolve) => setTimeout(resolve, 20));
        return fake.of("receipts");
    """
    told = run(page, body, message=MESSAGE)
    assert sorted(number for one in told for number in one["ids"]) == [5, 6]
    assert {one["state"] for one in told} == {"read"}


def test_unread_messages_are_counted(page: Page) -> None:
    """Messages of others are unread until this device, or another one of the user, has read them; a change leaves that
    as it is. The counts are there again when the page is."""
    body = """
        fake.answers.receipts = () => ({ ok: true });
        const counts = async (one) => Object.fromEntries(await one.unread());
        const own = { ...message, id: 9, from: 7, to: { user: 8 } };
        const many = [5, 6, 10].map((id) => ({ ...message, id }));
        const inRoom = { ...message, id: 11, to: { room: 3 } };
        await chat.socket.bring("_batch", [...many, own, inRoom].map((one) => ["message", one]));
        const found = [await counts(chat)];
        await chat.read([5]);
        await chat.socket.bring("message_changed", { ...message, text: "changed", changed_at: 9 });
        await chat.socket.bring("message_changed", { ...message, id: 6, text: "changed", changed_at: 9 });
        found.push(await counts(chat));
        await chat.socket.bring("receipt", { ids: [6, 404], user: 7, device: "other", state: "read", at: 3 });
        await chat.socket.bring("message_changed", { id: 11, to: { room: 3 }, deleted: true });
        chat.close();
        const again = new recado.Messenger({ site: "team", io: fake.io, storage: chat.storage });
        await again.open();
        found.push(await counts(again));
        again.close();
        return [found, (await chat.messages({ user: 8 })).flatMap((one) => one.receipts)];
    """
    found, receipts = run(page, body, message=MESSAGE)
    assert found == [{"u8": 3, "r3": 1}, {"u8": 2, "r3": 1}, {"u8": 1}]
    assert receipts == []


def test_registrations_are_known(page: Page) -> None:
    """A registration that the server tells of is known to the page, and told to it."""
    body = """
        const one = { id: 4, login: "cleo", name: "Cleo", at: 1, state: "waiting" };
        await chat.socket.bring("directory", { registrations: [one] });
        return [[...chat.registrations.values()], chat.told.filter(([event]) => event === "directory").length > 0];
    """
    known = {"id": 4, "login": "cleo", "name": "Cleo", "at": 1, "state": "waiting"}
    assert run(page, body) == [[known], True]


def test_an_upload_that_is_cancelled_ends(page: Page) -> None:
    """An upload ends with its signal, also where the server cannot be reached."""
    body = """
        const cancel = new AbortController();
        const asked = globalThis.fetch;
        globalThis.fetch = async () => { cancel.abort(); throw new TypeError("no network"); };
        const file = new File(["x"], "x.txt");
        const end = await chat.upload(file, { signal: cancel.signal }).catch((error) => error.name);
        globalThis.fetch = asked;
        return end;
    """
    assert run(page, body) == "AbortError"


def test_a_void_session_asks_for_a_login(page: Page) -> None:
    """With `session_void` the session is forgotten, the messages are kept, and a login is expected."""
    body = """
        await chat.socket.bring("message", message);
        chat.socket.drop("transport close");
        chat.socket.active = false;
        chat.socket.tell("connect_error", new Error("session_void"));
        const states = chat.told.filter(([event]) => event === "state").at(-1);
        return [chat.state, states, (await chat.messages({ user: 8 })).length];
    """
    assert run(page, body, message=MESSAGE) == ["login", ["state", "login", "session_void"], 1]


def test_a_server_without_the_keys_gets_nothing(page: Page) -> None:
    """A server that does not prove that it knows the keys is left: no session is kept, and no message is sent to it,
    whatever it says."""
    body = """
        fake.answers.message = () => ({ ok: true, id: 1, at: 1 });
        fake.answers.login = ({ data }) => ({ ok: true, data: `${data.slice(data.indexOf("r="))}More,s=QUJD,i=4096` });
        fake.answers.proof = () => ({ ok: true, data: "v=QUJD", session: "token", user: fake.user });
        const liar = new recado.Messenger({ site: "liar", io: fake.io });
        liar.send({ user: 8 }, "secret").catch(() => {});
        await liar.open();
        const login = liar.login("anna", "pencil").catch((error) => error.code);
        while (!fake.of("login").length) await new Promise((resolve) => setTimeout(resolve, 0));
        await fake.sockets.at(-1).bring("_settings", { session: "token", user: fake.user, limits: {} });
        return [await login, liar.state, liar.user, fake.of("message").length, fake.sockets.at(-1).connected];
    """
    assert run(page, body) == ["wrong_server", "off", None, 0, False]


# Rendering

_TAGS = {"DIV", "PRE", "CODE", "SPAN", "A", "STRONG", "EM", "U", "BLOCKQUOTE"}
_DUMP = """
    const made = document.createElement("section");
    made.append(recado.render(message));
    const all = [...made.querySelectorAll("*")];
    return { text: made.textContent, html: made.innerHTML, tags: [...new Set(all.map((one) => one.tagName))],
      attributes: [...new Set(all.flatMap((one) => [...one.attributes].map((each) => each.name)))],
      links: all.filter((one) => one.href).map((one) => one.href) };
"""


def rendered(page: Page, text: str, kind: str = "text", **data: Any) -> dict[str, Any]:
    """A message as it is shown."""
    found: dict[str, Any] = run(page, _DUMP, message={"kind": kind, "text": text, "data": data or None})
    return found


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**a** and *b* and __c__", "<strong>a</strong> and <em>b</em> and <u>c</u>"),
        ("**a _b_ c**", "<strong>a <em>b</em> c</strong>"),
        ("2 * 3 * 4, snake_case_name, ** a **", "2 * 3 * 4, snake_case_name, ** a **"),
        ("`**x**`", "<code>**x**</code>"),
    ],
)
def test_marks(page: Page, text: str, html: str) -> None:
    """Bold, italic, underlined and code have their marks; other signs stay as they are."""
    assert rendered(page, text, format="simple")["html"] == f'<div class="recado-text">{html}</div>'
    assert rendered(page, text)["html"] == f'<div class="recado-text">{text}</div>'


def test_quote_and_code(page: Page) -> None:
    """A quote links to its message, and code is highlighted by its language."""
    shown = rendered(page, "> [#12] what\n> else\nyes\n```py\nif x: # why\n  return 'a'\n```\nend", format="simple")
    assert shown["links"] == [f"{page.evaluate('location.href')}#message-12"]
    for part in (
        '<blockquote><a href="#message-12" class="recado-quote">#12</a> what\nelse</blockquote>',
        '<div class="recado-text">yes</div>',
        '<span class="recado-keyword">if</span> x: <span class="recado-comment"># why</span>',
        '<span class="recado-keyword">return</span> <span class="recado-string">\'a\'</span>',
    ):
        assert part in shown["html"]
    code = rendered(page, "let a = 1 // one", "code", language="js")
    assert '<span class="recado-number">1</span> <span class="recado-comment">// one</span>' in code["html"]


HOSTILE = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "**<b onclick=alert(1)>**",
    "javascript:alert(1)",
    'https://x.example/"onmouseover="alert(1)',
    '> [#1"><script>] x',
    "```<img src=x>\n<svg/onload=alert(1)>",
    "data:text/html,<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "`<iframe src=//x>`",
    "<img src=x onerror=alert(1)> **<b>** <svg onload=alert(1)> https://x.example/<i> <u>",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", ["text", "code", "link", "file"])
def test_no_markup_of_the_sender_counts(page: Page, text: str, kind: str) -> None:
    """A hostile text becomes text: there are only elements, attributes and addresses of the client."""
    for data in ({}, {"format": "simple"}, {"language": text, "format": "simple"}):
        shown = rendered(page, text, kind, **data)
        assert set(shown["tags"]) <= _TAGS
        assert set(shown["attributes"]) <= {"class", "href", "rel", "target"}
        assert all(link.startswith(("http://", "https://")) for link in shown["links"]), shown["links"]


@pytest.mark.parametrize(
    "piece", ["**", "*a ", "__a", "`", "https://", "> ", "```\n", '"\\', "/*", "_ a", "a_", "**a **"]
)
def test_long_texts_take_no_time(page: Page, piece: str) -> None:
    """The longest text of any pattern is rendered in a moment."""
    text = (piece * 65_536)[:65_536]
    body = """
        const began = performance.now();
        recado.renderSimple(text);
        recado.highlight(text);
        return performance.now() - began;
    """
    assert run(page, body, text=text) < 2_000


# Load tests


def test_a_page_takes_part_in_load_tests(page: Page) -> None:
    """A page sends messages for a load test once it has said that it takes part, as many as it is asked for, also after
    a refusal for the time being; each tells how long the answer before took. It joins a run first, sends nothing for
    one that it may not join, and takes part until it says otherwise."""
    before, sent, after, joined = run(
        page,
        """
        const { takePart } = await import('/recado/messenger-load.js');
        const plan = { run: "1-ab", room: 12, messages: 20 };
        await chat.socket.bring("load_test", plan);
        const before = fake.of("message").length;
        const end = takePart(chat);
        let taken = 0;
        fake.answers.load_join = ({ run }) => run === "1-ab"
          ? { ok: true } : { ok: false, error: { code: "bad_request", message: "over" } };
        const all = new Promise((resolve) => {
          fake.answers.message = () => {
            if (fake.of("message").length === 1) {
              return { ok: false, error: { code: "too_many", message: "later" } };
            }
            taken += 1;
            taken === plan.messages && resolve();
            return { ok: true, id: taken, at: 1 };
          };
        });
        await chat.socket.bring("load_test", { ...plan, run: "", messages: 0 });
        await chat.socket.bring("load_test", { ...plan, run: "0-ef" });
        await chat.socket.bring("load_test", plan);
        await all;
        const sent = fake.of("message");
        const first = fake.asked.findIndex(([name]) => name === "message");
        const joined = fake.asked.slice(0, first).filter(([name]) => name === "load_join").map(([, { run }]) => run);
        end();
        await chat.socket.bring("load_test", { ...plan, run: "2-cd" });
        return [before, sent, fake.of("message").length - sent.length, joined];
        """,
    )
    assert (before, len(sent), after, joined) == (0, 21, 0, ["0-ef", "1-ab"])
    assert {(one["to"]["room"], one["kind"], one["data"]["run"]) for one in sent} == {(12, "load", "1-ab")}
    assert len({one["id"] for one in sent}) == 21
    assert all(one["data"]["ms"] >= 0 for one in sent[-3:])
    assert "ms" not in sent[0]["data"]
