"""The demo's page of the messenger in Chromium: people come in and change their passwords, make rooms and contacts, and
change, forward and delete messages. Each test has users of its own where it changes them."""

from __future__ import annotations

import json

from tests.protocols.messenger.conftest import OpenChat
from tests.support.browser import Page
from tests.support.messenger_page import Side, as_anna, attach, both, make_user, search
from tests.support.waiting import eventually


def log_in_as(page: Page, login: str, name: str, password: str = "a long password") -> Side:
    """A new user, on the right side of a page."""
    make_user(page, login, name, password)
    return Side(page, "Ben").log_in().become(login, name, password)


def complaints(page: Page) -> list[str]:
    """The complaints of the page, but not that a logout met a connection that the server was about to close."""
    return [one for one in page.complaints() if "already in CLOSING" not in one]


def reload(page: Page, name: str) -> Side:
    """Load the page again; the side of a person who is in."""
    page.call("Page.reload")
    eventually(lambda: page.evaluate("document.readyState") == "complete", "the page")
    side = Side(page, name)
    side.wait("online")
    return side


def test_a_stranger_registers_and_is_let_in(open_chat: OpenChat) -> None:
    """A stranger who has registered waits; an admin sees it with its next login, and others at once, and accepts it;
    then the stranger logs in with its password."""
    page = open_chat()
    ben = Side(page, "Ben")
    ben.ask("region.querySelector('summary').click()")
    ben.fill("New login", "cleo")
    ben.fill("Name", "Cleo")
    ben.fill("New password", "a long password")
    ben.press("Register")
    ben.wait("cleo waits.")
    anna = Side(page, "Anna").log_in()
    anna.press("Account")
    anna.wait("Cleo as cleo")
    ben.fill("New login", "nobody")
    ben.fill("Name", "Nobody")
    ben.fill("New password", "a long password")
    ben.press("Register")
    anna.press("Refuse nobody")
    anna.press("Accept cleo")
    eventually(lambda: "People who want to come in" not in anna.text(), "the end of the registrations")
    ben = Side(page, "Ben")
    ben.fill("Login", "cleo")
    ben.fill("Password", "a long password")
    ben.press("Log in")
    ben.wait("online")
    cleo = Side(page, "Cleo")
    anna.open("Cleo")
    anna.send("Welcome, Cleo")
    cleo.wait("Welcome, Cleo")
    anna.wait_state("Welcome, Cleo", "read")
    assert complaints(page) == []


def test_a_first_password_is_changed(open_chat: OpenChat) -> None:
    """A user whose password an operator has set sets another one before anything else, and may set one more later; that
    one logs it in."""
    page = open_chat()
    as_anna(
        page,
        "const password = await newKeys('first password', 4096);"
        "await chat.ask('user_create', { login: 'dora', name: 'Dora', password });",
    )
    side = Side(page, "Ben")
    side.fill("Login", "dora")
    side.fill("Password", "first password")
    side.press("Log in")
    side.wait("needs another password")
    assert "Search" not in side.text()
    side = Side(page, "Dora")
    side.fill("Present password", "no password")
    side.fill("Another password", "second password")
    side.press("Set the password")
    side.wait("Login or password is wrong.")
    side.fill("Present password", "first password")
    side.press("Set the password")
    side.wait("online")
    side.press("Account")
    side.fill("Present password", "second password")
    side.fill("Another password", "pa\u00dfword \u2168")
    side.press("Change the password")
    side.wait("Every other device is logged out.")
    # Texts that look the same are the same password.
    side.become("DORA", "Dora", "pa\u00dfword IX")
    assert complaints(page) == []


def test_devices_and_a_logout_everywhere(open_chat: OpenChat) -> None:
    """A device that gets a name is shown so on the other one. A logout everywhere ends the session of both: the other
    one says so, and forgets nothing until somebody logs in. A logout forgets everything."""
    pages = [open_chat(), open_chat()]
    make_user(pages[0], "emil", "Emil", "a long password")
    first, second = (Side(page, "Ben").log_in().become("emil", "Emil", "a long password") for page in pages)
    second.press("Account")
    first.press("Account")
    first.fill("Name of this device", "Kitchen tablet")
    first.press("Name it")
    second.wait("Kitchen tablet")
    assert "this device" in first.wait("Kitchen tablet")
    first.press("Log out everywhere")
    first.wait("not logged in")
    assert "You were logged out" in second.wait("You were logged out")
    second.fill("Login", "emil")
    second.fill("Password", "a long password")
    second.press("Log in")
    second.wait("online")
    assert "You were logged out" not in second.text()
    second.press("Log out")
    second.wait("not logged in")
    pages[1].call("Page.reload")
    eventually(lambda: pages[1].evaluate("document.readyState") == "complete", "the page")
    Side(pages[1], "Ben").wait("not logged in")


def test_contacts(open_chat: OpenChat) -> None:
    """A contact has a name of one's own and may be muted; what it sends while it is blocked is never shown, and it is
    told nothing."""
    page = open_chat()
    anna = Side(page, "Anna").log_in()
    finn = log_in_as(page, "finn", "Finn")
    anna.open("Finn")
    anna.press("Details of Finn")
    anna.fill("Name that you see", "Finn of the garden")
    anna.check("Mute: what is unread is shown quietly")
    anna.press("Save")
    anna.wait("muted")
    anna.open("Lunch")
    finn.open("Anna")
    finn.send("Can you hear me?")
    eventually(lambda: anna.ask("Boolean(region.querySelector('.unread.muted'))"), "the quiet mark")
    anna.open("Finn of the garden")
    finn.wait_state("Can you hear me?", "read")
    anna.press("Details of Finn of the garden")
    anna.check("Block: nothing of this person arrives")
    anna.press("Save")
    anna.wait("blocked, muted")
    finn.send("And while I am blocked?")
    finn.wait_state("And while I am blocked?", "sent")
    anna.check("Block: nothing of this person arrives")
    anna.press("Save")
    eventually(lambda: "blocked" not in anna.ask("region.querySelector('nav').innerText"), "the end of the block")
    anna.open("Finn of the garden")
    finn.send("And now?")
    anna.wait("And now?")
    assert "while I am blocked" not in anna.text()
    assert finn.state_of("And while I am blocked?") == "sent"
    assert complaints(page) == []


def test_rooms(open_chat: OpenChat) -> None:
    """A room is made with its members; its admins change it and make admins; archived, it takes no messages, until it
    is taken back; who leaves it sees it no more."""
    page = open_chat()
    anna = Side(page, "Anna").log_in()
    gina = log_in_as(page, "gina", "Gina")
    anna.press("New room")
    anna.fill("Name", "Compost")
    anna.check("Member: Gina")
    anna.press("Make the room")
    anna.find("button", "Details of Compost")
    gina.open("Compost")
    gina.press("Details of Compost")
    assert gina.ask("region.querySelector('fieldset').disabled")
    anna.press("Details of Compost")
    anna.check("Admin: Gina")
    anna.press("Save")
    eventually(lambda: not gina.ask("region.querySelector('fieldset').disabled"), "Gina to be an admin")
    gina.fill("Name", "Compost heap")
    gina.fill("Description", "Turn it once a week")
    gina.press("Save")
    anna.wait("Turn it once a week")
    gina.press("Details of Compost heap")
    gina.press("Archive")
    anna.wait("This room is archived and takes no messages.")
    assert anna.ask("region.querySelector('.composer').checkVisibility()") is False
    gina.press("Take back")
    eventually(lambda: anna.ask("region.querySelector('.composer').checkVisibility()"), "the room to be open")
    anna.send("It is turned")
    anna.wait_state("It is turned", "delivered")
    gina.press("Leave")
    eventually(lambda: "Compost" not in gina.text(), "the room to be gone")
    assert "Compost heap" in anna.text()
    assert complaints(page) == []


def test_change_forward_and_delete(open_chat: OpenChat) -> None:
    """A message is changed, forwarded to another conversation, and deleted on both sides; a message of another person
    is deleted by an admin of the room alone."""
    page = open_chat()
    anna = Side(page, "Anna").log_in()
    hans = log_in_as(page, "hans", "Hans")
    room = as_anna(page, "return chat.ask('room_create', { name: 'Tools', members: [...chat.users.keys()] })")["id"]
    assert room
    for side in (anna, hans):
        side.open("Tools")
    hans.send("The spade is in the barn")
    anna.wait("The spade is in the barn")
    hans.more("You: The spade is in the barn", "Edit")
    hans.send("The spade is in the shed")
    for side in (anna, hans):
        assert "changed" in side.wait("The spade is in the shed")
        assert "barn" not in side.text()
    choice = "[...region.querySelectorAll('.acts select')].at(-1)"
    anna.press("More for Hans: The spade is in the shed")
    anna.ask(f"{choice}.value = [...{choice}.options].find((one) => one.text === 'Hans').value")
    anna.press("Forward Hans: The spade is in the shed")
    anna.find("log", "Messages of Anna with Hans")
    anna.wait("forwarded")
    anna.more("You: The spade is in the shed", "Delete")
    eventually(lambda: anna.count("The spade") == 0, "the forwarded message to be gone")
    anna.open("Tools")
    hans.press("More for You: The spade is in the shed")
    anna.more("Hans: The spade is in the shed", "Delete")
    eventually(lambda: anna.count("The spade") + hans.count("The spade") == 0, "the message to be gone")
    assert complaints(page) == []


def test_long_conversations_are_shown_in_pages(open_chat: OpenChat) -> None:
    """The newest messages are shown; older ones come when somebody scrolls up, and what was read stays in its place.
    One that was found is shown with all behind it."""
    page = open_chat()
    as_anna(
        page,
        "const { id: room } = await chat.ask('room_create', { name: 'Diary' });"
        "for (let day = 1; day <= 70; day += 1) await chat.send({ room }, `Rain on day ${day}`);",
    )
    anna = Side(page, "Anna").log_in()
    anna.open("Diary")
    anna.wait("Rain on day 70")
    assert anna.count("Rain on day") == 50
    place = "message.offsetTop - log.scrollTop"
    log = "const log = region.querySelector('.log');"
    log += "const message = [...log.querySelectorAll('.message')].find((one) => one.innerText.includes('day 21'));"
    before = anna.ask(f"(() => {{ {log} log.scrollTop = 20; return {place}; }})()")
    eventually(lambda: anna.count("Rain on day") == 70, "the older messages")
    assert abs(anna.ask(f"(() => {{ {log} return {place}; }})()") - before) < 2
    anna.open("Ben")
    search(anna, "Rain day 1")
    anna.wait("found")
    anna.press("You: Rain on day 1")
    eventually(lambda: "Rain on day 1" in page.evaluate("document.activeElement.innerText"), "the message")


def test_a_reader_who_scrolls_up_stays_there(open_chat: OpenChat) -> None:
    """A log that is shown again before its scroll event comes, with the next frame, leaves the reader further up."""
    page = open_chat()
    as_anna(
        page,
        "const { id: room } = await chat.ask('room_create', { name: 'Logbook' });"
        "for (let day = 1; day <= 40; day += 1) await chat.send({ room }, `Wind on day ${day}`);",
    )
    anna = Side(page, "Anna").log_in()
    anna.open("Logbook")
    anna.wait("Wind on day 40")
    moved = anna.ask(
        "(async () => {"
        "const log = region.querySelector('.log'); const moved = [];"
        "const frames = async (count) => { while (count--) await new Promise(requestAnimationFrame); };"
        "for (let ms = 0; ms < 24; ms += 1) {"
        "  log.scrollTop = log.scrollHeight; await frames(2);"
        "  document.dispatchEvent(new Event('visibilitychange'));"
        "  await new Promise((resolve) => setTimeout(resolve, ms));"
        "  log.scrollTop = 200; await frames(4);"
        "  if (log.scrollTop !== 200) moved.push([ms, log.scrollTop]);"
        "} return moved; })()"
    )
    assert moved == []


def test_unread_messages_after_a_reload(open_chat: OpenChat) -> None:
    """Messages to a conversation that is not open are counted, also after a reload; once they are read they are not."""
    page = open_chat()
    anna = Side(page, "Anna").log_in()
    ida = log_in_as(page, "ida", "Ida")
    ida.open("Anna")
    for text in ("one", "two", "three"):
        ida.send(f"Number {text}")
    anna.wait("3 unread")
    anna = reload(page, "Anna")
    anna.wait("3 unread")
    anna.open("Ida")
    ida = Side(page, "Ida")
    ida.open("Anna")
    ida.wait_state("Number three", "read")
    assert "3 unread" not in reload(page, "Anna").wait("Lunch")


def test_unread_messages_on_a_second_device(open_chat: OpenChat) -> None:
    """A message that one device has read is not unread on another one, whether that is new or there already."""
    pages = [open_chat(), open_chat()]
    kim = log_in_as(pages[0], "kim", "Kim")
    first = Side(pages[0], "Anna").log_in()
    kim.open("Anna")
    for text in ("one", "two"):
        kim.send(f"Kim's {text}")
    first.open("Kim")
    kim.wait_state("Kim's two", "read")
    first.open("Lunch")
    kim.send("Kim's three")
    second = Side(pages[1], "Anna").log_in()
    eventually(lambda: {mark_of(side, "Kim") for side in (first, second)} == {"1 unread"}, "the third message")
    second.open("Kim")
    eventually(lambda: mark_of(first, "Kim") == "", "the message to be read")


def mark_of(side: Side, name: str) -> str:
    """The mark of unread messages beside a person in the list of conversations."""
    button = "[...region.querySelectorAll('nav button')].find((one) => one.innerText.startsWith(words))"
    return str(side.ask(f"{button}?.querySelector('.unread')?.innerText ?? ''", name))


def test_written_offline_sent_after_a_reload(open_chat: OpenChat) -> None:
    """A message that is written offline outlasts a reload without a connection, and goes out once there is one."""
    page = open_chat()
    anna = Side(page, "Anna").log_in()
    jana = log_in_as(page, "jana", "Jana")
    anna.open("Jana")
    jana.open("Anna")
    jana.press("Go offline")
    jana.send("Written on the train")
    jana.wait_state("Written on the train", "waiting")
    page.call("Network.enable")
    page.call("Network.setBlockedURLs", urls=["*EIO=4*"])
    page.call("Page.reload")
    eventually(lambda: page.evaluate("document.readyState") == "complete", "the page")
    jana = Side(page, "Jana")
    jana.wait("connecting")
    jana.open("Anna")
    jana.wait_state("Written on the train", "waiting")
    page.call("Network.setBlockedURLs", urls=[])
    jana.wait_state("Written on the train", "delivered")
    anna = Side(page, "Anna")
    anna.open("Jana")
    anna.wait("Written on the train")
    assert (anna.count("Written on the train"), jana.count("Written on the train")) == (1, 1)


HOSTILE = [
    "<script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 1">',
    "[x](javascript:window.hacked=1)",
    "```<svg/onload=window.hacked=1>\n<img src=x onerror=window.hacked=1>\n```",
    "> [#1] **<iframe srcdoc='<script>parent.hacked=1</script>'>**",
]
_MARKUP = "<img src=x onerror=window.hacked=1>"


def test_script_in_every_text(open_chat: OpenChat) -> None:
    """Markup in messages and their data, in names of users, rooms, contacts, devices and files, in signs, descriptions
    and searches is shown as text and runs nowhere."""
    page = open_chat()
    make_user(page, "mallory", f"Mallory {_MARKUP}", "a long password")
    given = json.dumps([HOSTILE, _MARKUP])
    as_anna(
        page,
        f"const [texts, markup] = {given};"
        "await chat.ask('profile', { sign: markup });"
        "await chat.ask('device_name', { name: markup });"
        "const ben = [...chat.users.values()].find((one) => one.login === 'ben').id;"
        "await chat.ask('contact', { user: ben, name: `Ben ${markup}` });"
        "const values = { name: `Lair ${markup}`, description: markup, members: [...chat.users.keys()] };"
        "const { id: room } = await chat.ask('room_create', values);"
        "for (const text of texts) for (const kind of ['text', 'code', 'link', text.slice(0, 20)])"
        "  await chat.send({ room }, text, { kind, data: { format: 'simple', language: text, [text]: text } });",
    )
    anna, ben = both(page)
    for side in (anna, ben):
        side.open("Lair <img")
        side.wait("<iframe srcdoc='<script>parent.hacked=1</script>'>")
    attach(anna, f"{_MARKUP}.txt", "text/plain", b"plain")
    attach(anna, f"{_MARKUP}.png", "image/png", b"no picture")
    ben.wait(f"Save {_MARKUP}.txt, 5 bytes")
    search(ben, "iframe")
    ben.wait("found")
    anna.press("Account")
    anna.wait(_MARKUP)
    ben.open("Anna")
    ben.press("Details of Anna")
    ben.wait(_MARKUP)
    anna.open("Lair <img")
    anna.press(f"Details of Lair {_MARKUP}")
    anna.wait("Member")
    as_anna(
        page,
        "await chat.ask('profile', { sign: '' });"
        "const ben = [...chat.users.values()].find((one) => one.login === 'ben').id;"
        "await chat.ask('contact', { user: ben, name: null });",
    )
    wrong = "'SCRIPT IFRAME OBJECT SVG'.split(' ').some((tag) => document.querySelector(`main ${tag}`))"
    assert page.evaluate(f"[window.hacked ?? null, {wrong}]") == [None, False]
    assert [one for one in page.complaints() if "Content Security" in one or "exception" in one] == []
