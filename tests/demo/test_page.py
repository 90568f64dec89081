"""The demo's page in Chromium, used as a visitor uses it."""

from __future__ import annotations

import itertools
import json
import shlex

import httpx
import pytest

from tests.demo.conftest import DemoServer, OpenPage
from tests.support.browser import Page
from tests.support.waiting import eventually

_device_ids = itertools.count(1)


class Device:
    """One connected device on an open page, in a panel of its own. Lives as long as the page."""

    def __init__(self, page: Page, user: str = "alice", device: str = "") -> None:
        """Add a panel for this user's device (by default one that no other test has) and connect it."""
        self.page = page
        self.name = device or f"test-{next(_device_ids)}"
        page.click(page.find("button", "Add a device"))
        title = page.evaluate("document.querySelector('#devices').lastElementChild.ariaLabel")
        self.panel = page.find("region", title)
        page.choose(self._find("combobox", "User"), user)
        page.fill(self._find("textbox", "Device id"), self.name)
        self.press("Connect")
        self.inbox = self._find("log", f"What {user} on {self.name} received")

    def wait(self, text: str) -> str:
        """Wait until the inbox contains the text; return the whole text."""
        return self.page.wait_text(self.inbox, text)

    def press(self, name: str) -> None:
        """Press a button of the panel."""
        self.page.click(self._find("button", name))

    def switch_acknowledging(self) -> None:
        """Press the checkbox for acknowledging."""
        self.page.click(self._find("checkbox", "Acknowledge"))

    def come_back(self) -> None:
        """Connect again and wait until the device is connected."""
        connections = self.text().count("_settings")
        self.press("Come back")
        eventually(lambda: self.text().count("_settings") > connections, "the next _settings")

    def text(self) -> str:
        """The present text of the inbox."""
        return self.page.text(self.inbox)

    def _find(self, role: str, name: str) -> int:
        return self.page.find(role, name, self.panel)


def send(page: Page, event: str, args: str = "[]", rooms: str = "user_alice") -> None:
    """Fill in the backend's form, press Send and wait for its `200 OK`."""
    page.evaluate("document.querySelector('#answer').textContent = ''")
    page.fill(page.find("textbox", "Rooms, with commas between them"), rooms)
    page.fill(page.find("textbox", "Event"), event)
    page.fill(page.find("textbox", "Arguments, as JSON"), args)
    page.click(page.find("button", "Send"))
    eventually(lambda: "200 OK" in page.evaluate("document.querySelector('#answer').textContent"), "200 OK")


def test_send_receive_miss_one_and_come_back(open_page: OpenPage) -> None:
    """A sent message arrives; messages sent while the device is away arrive once, in one `_batch`, when it is back."""
    page = open_page()
    phone = Device(page)
    phone.wait('{"device_ttl":3600}')

    send(page, "greeting", '[{"text": "Olá"}, 2]')
    assert "acknowledged" in phone.wait('greeting {"text":"Olá"}, 2')

    phone.press("Disconnect")
    phone.wait("Disconnected")
    send(page, "missed", "[1]")
    send(page, "missed too", "[2]")
    assert "missed" not in phone.text()

    phone.come_back()
    batch = phone.wait("_batch").partition("_batch")[2]
    assert "2 messages that waited for this device" in batch
    assert batch.index("missed 1") < batch.index("missed too 2") < batch.index("acknowledged")
    assert "greeting" not in batch

    phone.press("Disconnect")
    phone.come_back()
    send(page, "last")
    assert phone.wait("last").count("_batch") == 1
    assert page.complaints() == []


def test_unacknowledged_comes_again_and_acknowledged_now_does_not(open_page: OpenPage) -> None:
    """With acknowledging off a message waits for its button; an unacknowledged message is
    sent again, an acknowledged one is not."""
    page = open_page()
    phone = Device(page)
    phone.wait("_settings")
    phone.switch_acknowledging()
    send(page, "pressed")
    phone.wait("pressed")
    phone.press("Acknowledge now")
    assert phone.wait("acknowledged").count("Acknowledge now") == 0
    send(page, "left")
    assert "Acknowledge now" in phone.wait("not acknowledged")

    phone.press("Disconnect")
    assert "Acknowledge now" not in phone.wait("not acknowledged: will come again")
    phone.come_back()
    batch = phone.wait("_batch").partition("_batch")[2]
    assert "1 message that waited" in batch
    assert "left" in batch
    assert "pressed" not in batch


def test_out_of_order_with_resync(open_page: OpenPage) -> None:
    """With `resync` on, acknowledging the second message of an event before the first shows `_resync`."""
    page = open_page()
    phone = Device(page)
    phone.wait("_settings")
    phone.switch_acknowledging()
    page.click(page.find("checkbox", "resync"))
    send(page, "first-step", "[1]")
    send(page, "first-step", "[2]")
    phone.wait("first-step 2")
    second = "[...document.querySelectorAll('.receipt button')].at(-1).click()"
    page.evaluate(second)
    assert "fetch everything anew" in phone.wait("_resync")


def test_two_devices_have_a_queue_each(open_page: OpenPage) -> None:
    """A second device gets the same message; a message that one device acknowledged still waits for the other."""
    page = open_page()
    phone = Device(page)
    laptop = Device(page)
    for device in (phone, laptop):
        device.wait("_settings")
    laptop.press("Disconnect")
    send(page, "to-both", "[true]", rooms="lobby")
    phone.wait("to-both true")
    laptop.come_back()
    assert "to-both true" in laptop.wait("_batch")
    assert "_batch" not in phone.text()


def test_two_tabs_of_one_device(open_page: OpenPage) -> None:
    """Two tabs with the same deviceId both get a live message."""
    tabs = [open_page(), open_page()]
    first = Device(tabs[0])
    second = Device(tabs[1], device=first.name)
    for device in (first, second):
        device.wait("_settings")
    send(tabs[0], "for-all-tabs")
    for device in (first, second):
        device.wait("for-all-tabs")


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_transport_choice(open_page: OpenPage, transport: str) -> None:
    """The device connects over the chosen transport and shows its name."""
    page = open_page()
    panel = page.find("region", "alice on phone")
    page.click(page.find("button", "Disconnect", panel))
    page.choose(page.find("combobox", "Transport", panel), transport)
    page.click(page.find("button", "Come back", panel))
    page.wait_text(panel, f"connected · {transport}")


def test_unknown_user_is_refused(open_page: OpenPage) -> None:
    """A connect error is shown with the server's text, and the visitor may try again."""
    page = open_page()
    mallory = Device(page, user="mallory")
    mallory.wait("connect_error: Authentication failed")
    mallory.press("Try again")
    mallory.wait("connect_error: Authentication failed (2 times)")


def test_curl_line_is_the_request(open_page: OpenPage, demo: DemoServer) -> None:
    """The curl line follows the form, survives a shell's quoting, and has the same effect as Send."""
    page = open_page()
    phone = Device(page)
    phone.wait("_settings")
    page.click(page.find("button", "user_bob"))
    page.click(page.find("checkbox", "resync"))
    page.fill(page.find("textbox", "Event"), "it's")
    page.fill(page.find("textbox", "Arguments, as JSON"), '["a \\"b\\" $HOME `x` ç", null]')
    curl, url, _, header, _, body = shlex.split(page.evaluate("document.querySelector('#curl').textContent"))
    assert (curl, url) == ("curl", f"{demo.url}/send?site=demo&apiKey=demo&resync=true")
    assert header == "Content-Type: application/json"
    args = ['a "b" $HOME `x` ç', None]
    assert json.loads(body) == {"rooms": ["user_alice", "user_bob"], "event": "it's", "args": args}
    assert httpx.post(url, content=body, headers={"Content-Type": "application/json"}).text == "OK"
    phone.wait('it\'s "a \\"b\\" $HOME `x` ç", null')


def test_copy_puts_the_curl_line_on_the_clipboard(open_page: OpenPage) -> None:
    """Copy reports success, and the clipboard then holds the line."""
    page = open_page()
    line = page.evaluate("document.querySelector('#curl').textContent")
    page.click(page.find("button", "Copy"))
    page.find("button", "Copied")
    event = page.find("textbox", "Event")
    page.paste(event)
    page.wait_text(event, line)


def test_answer_tells_for_how_many_devices(open_page: OpenPage) -> None:
    """A message for a room that nobody has does not look like a success."""
    page = open_page()
    form = page.find("region", "Backend")
    device = Device(page)
    device.wait("_settings")
    send(page, "greeting")
    page.wait_text(form, "200 OK · stored for")
    assert page.evaluate("document.querySelector('#answer').dataset.state") == "good"
    send(page, "greeting", rooms="nobody-has-this")
    page.wait_text(form, "no device has any of these rooms")
    assert page.evaluate("document.querySelector('#answer').dataset.state") == "bad"


def test_form_shows_what_is_wrong(open_page: OpenPage) -> None:
    """Arguments that are not JSON are reported beside the field, and the answer before goes; the server's refusal is
    shown with its status."""
    page = open_page()
    form = page.find("region", "Backend")
    send(page, "greeting")
    page.fill(page.find("textbox", "Arguments, as JSON"), "[1,")
    page.wait_text(form, "Arguments: expected JSON")
    assert page.evaluate("document.querySelector('#curl').textContent") == ""
    assert page.evaluate("document.querySelector('#answer').textContent") == ""
    page.fill(page.find("textbox", "Arguments, as JSON"), "7")
    page.fill(page.find("textbox", "Event"), "_batch")
    page.click(page.find("button", "Send"))
    page.wait_text(form, "400 ")


def test_without_the_bundle(open_page: OpenPage) -> None:
    """Without the Socket.IO client the page says how to get it."""
    page = open_page(blocked_url="*/socket.io/socket.io.js*")
    assert "scripts/fetch-clients" in page.text(page.find("alert", ""))


def test_server_restart(open_page: OpenPage, demo: DemoServer) -> None:
    """A device whose server is stopped and started again reconnects by itself and receives messages."""
    page = open_page()
    phone = Device(page)
    phone.wait("_settings")
    demo.stop()
    page.wait_text(phone.panel, "reconnecting…")
    demo.start()
    page.wait_text(phone.panel, "connected ·")
    send(page, "after-restart")
    phone.wait("after-restart")


def test_phone_sized_window(open_page: OpenPage) -> None:
    """At 390 pixels the page is one column, and nothing is cut off at the side, long words included."""
    page = open_page(width=390, height=844)
    phone = Device(page, device="d" * 60)
    phone.wait("_settings")
    send(page, "e" * 80, json.dumps(["w" * 300]))
    phone.wait("w" * 300)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    columns = "new Set([...document.querySelectorAll('main > section')].map((s) => s.getBoundingClientRect().x)).size"
    assert page.evaluate(columns) == 1


def test_keyboard_reaches_everything(open_page: OpenPage) -> None:
    """Tab alone walks through every control in reading order, and each has an accessible name."""
    page = open_page()
    page.wait_text(page.find("region", "alice on phone"), "connected ·")
    expected = [
        ("link", "messenger"),
        ("button", "Add a device"),
        ("button", "Remove alice on phone"),
        ("checkbox", "Acknowledge"),
        ("button", "Disconnect"),
        ("log", "What alice on phone received"),
        ("textbox", "Rooms, with commas between them"),
        *[("button", room) for room in ("user_alice", "user_bob", "user_carol", "lobby")],
        ("textbox", "Event"),
        ("textbox", "Arguments, as JSON"),
        ("checkbox", "resync"),
        ("button", "Send"),
        ("button", "Copy"),
    ]
    reached = []
    for _ in expected:
        page.press_tab()
        reached.append(page.focused())
    assert reached == expected
