"""The parts for Laravel and Rails with the libraries of both, and the PHP package over an HTTP client of PSR-18."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.packages import test_cases
from tests.packages.conftest import KEY, Customers, Shop
from tests.packages.door import Door
from tests.packages.languages import Language, Package
from tests.support.clients import Client
from tests.support.deployment import Deployment

_HERE = Path(__file__).parent
_SECONDS = 120
_PSR18 = Language("php-psr18", ("php", str(_HERE / "drivers" / "driver.php"), "psr18"), {})


@pytest.fixture
def psr_shop(packages: Callable[[Language], Package], door: Door, server: Deployment) -> Shop:
    """The shop's backend in PHP, whose requests Guzzle makes."""
    return Shop(packages(_PSR18), door, server)


def run(shop: Shop, *command: str, room: str) -> dict[str, Any]:
    """The report of the program."""
    body, headers = test_cases.hook(test_cases.EVENTS)
    settings = {name: value for name, value in shop.options.items() if name != "token_audience"}
    arguments = [json.dumps(settings), room, body, json.dumps(headers)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_laravel(psr_shop: Shop, customers: Customers) -> None:
    """An event reaches the room of its channel, a repeated notification arrives once, only signed webhooks pass."""
    user = customers.user()
    device = customers.connect(user)
    told = run(psr_shop, "php", str(_HERE / "programs" / "laravel.php"), room=user.room)
    assert (told["published"], told["notified"]) == (["/app/config/recado.php"], [True, True])
    assert "ttl" in told["refused"]
    assert told["channels"] == [{"room": "orders.7"}, "denied"]
    assert told["events"] == [test_cases.EVENTS, "refused"]
    psr_shop("send", rooms=[user.room], event="end")
    device.wait_event("end", timeout_seconds=test_cases.SECONDS)
    assert messages_of(device) == [("order.shipped", [{"order": 7}]), ("invoice.paid", [{"id": 3}]), ("end", [None])]


def test_rails(psr_shop: Shop, customers: Customers) -> None:
    """A model's changes are told when they are committed, a repeated job arrives once, only signed webhooks pass."""
    user = customers.user()
    device = customers.connect(user)
    told = run(psr_shop, "ruby", str(_HERE / "programs" / "rails.rb"), room=user.room)
    assert (told["job"], told["refused"]) == ([True, True], 400)
    assert told["later"] == [[True, True]]
    assert told["events"] == [test_cases.EVENTS, 400]
    assert 'socket.io.js?v=4"></script><meta name="recado" data-url="http://127.0.0.1:' in told["page"]
    assert '/shop" data-token="of the user"' in told["page"]
    psr_shop("send", rooms=[user.room], event="end")
    device.wait_event("end", timeout_seconds=test_cases.SECONDS)
    *orders, (job, (moment, named)), _ = messages_of(device)
    states = [("order.created", "new"), ("order.updated", "paid"), ("order.destroyed", "paid")]
    assert orders == [(event, [{"id": 1, "state": state}]) for event, state in states]
    assert (job, moment, named.keys()) == ("job", {"at": "2026-01-02T00:00:00.000Z"}, {"id", "at"})


def messages_of(device: Client) -> list[tuple[str, list[Any]]]:
    """The messages that the device has got, in their order."""
    return [(name, device.wait_event(name).args) for name in device.names() if not name.startswith("_")]


def test_psr18_sends(psr_shop: Shop, customers: Customers) -> None:
    """The client of PSR-18 sends and asks as the package's own transport does."""
    test_cases.test_send(psr_shop, customers)
    test_cases.test_withdraw(psr_shop, customers)


def test_psr18_repeats(psr_shop: Shop, customers: Customers) -> None:
    """Also here a lost answer is followed by a repeat that stores nothing."""
    test_cases.test_an_answer_that_is_lost(psr_shop, customers)


def test_psr18_is_held_to_the_rules(psr_shop: Shop) -> None:
    """Also here redirects are not followed, long answers not read, and no error has the key."""
    test_cases.test_redirects_are_not_followed(psr_shop)
    test_cases.test_an_answer_without_end(psr_shop)
    test_cases.test_secrets_are_not_shown(psr_shop)
