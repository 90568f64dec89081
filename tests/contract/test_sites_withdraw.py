"""Contract, options `id` and `settle`, and `DELETE /messages/<id>`: what real clients get of ids and withdrawals."""

from __future__ import annotations

import re
from typing import Any

from tests.support.clients import ACK_ALL, ACK_NONE, ClientKind, each_library
from tests.support.connector import Connector, without_fences
from tests.support.deployment import Deployment
from tests.support.tenant import Tenant, User
from tests.support.waiting import eventually

SITE = "alpha"
#: RFC 3339 with milliseconds.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def send(deployment: Deployment, room: str, event: str, site: str = SITE, **options: Any) -> str:
    """Send an event with its name as argument; return the message's id."""
    answer = deployment.try_send(site, {"rooms": [room], "event": event, "args": [event], **options})
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-message-id"])


def withdraw(deployment: Deployment, id: str) -> dict[str, Any]:
    """Withdraw a message; return the answer."""
    headers = {"x-api-key": deployment.key(SITE), "accept": "application/json"}
    answer = deployment.request("DELETE", f"/messages/{id}", params={"site": SITE}, headers=headers)
    assert answer.status_code == 200, answer.text
    value: dict[str, Any] = answer.json()
    return value


def wait_for(deployment: Deployment, user: User, device: str, **expected: Any) -> None:
    """Wait until a device is shown as expected."""
    query = {"site": SITE, "user": user.room}
    headers = {"x-api-key": deployment.key(SITE), "accept": "application/json"}

    def is_so() -> bool:
        shown = deployment.get("/devices", params=query, headers=headers).json()["devices"]
        found = next(one for one in shown if one["device"] == device)
        return {"state": found["state"], "messages": found["queue"]["messages"]}.items() >= expected.items()

    eventually(is_so, f"{device} to be {expected}")


@each_library
def test_withdrawal_reaches_the_device_that_has_it(
    tenant: Tenant, deployment: Deployment, connect: Connector, kind: ClientKind
) -> None:
    """`_withdraw` reaches a device that has the message and has not acknowledged it, and no other one."""
    user = tenant.user()
    connect(SITE, user, kind, device="away").disconnect()
    wait_for(deployment, user, "away", state="away")
    holding = connect(SITE, user, kind, device="holding", ack=ACK_NONE)
    done = connect(SITE, user, kind, device="done", ack=ACK_ALL)
    id = send(deployment, user.room, "news")
    holding.wait_event("news")
    done.wait_event("news")
    wait_for(deployment, user, "done", messages=0)
    assert withdraw(deployment, id) == {"ok": True, "id": id, "devices": 2}
    told = holding.wait_event("_withdraw")
    assert told.args == [{"id": id}]
    # python-socketio does not tell whether an ack is wanted.
    assert kind.library == "python" or not told.wants_ack
    back = connect(SITE, user, kind, device="away")
    connect.fence(SITE, user.room, holding, done, back)
    assert without_fences(holding) == ["news", "_withdraw"]
    assert without_fences(done) == ["news"]
    assert without_fences(back) == []


@each_library
def test_withdrawal_from_a_device_that_has_left(
    tenant: Tenant, deployment: Deployment, connect: Connector, kind: ClientKind
) -> None:
    """A device that left with the message gets `_withdraw` once, at its next connect, right behind `_settings`."""
    user = tenant.user()
    leaving = connect(SITE, user, kind, ack=ACK_NONE)
    id = send(deployment, user.room, "news")
    leaving.wait_event("news")
    leaving.disconnect()
    wait_for(deployment, user, "d1", state="away")
    send(deployment, user.room, "later")
    assert withdraw(deployment, id)["devices"] == 1
    back = connect(SITE, user, kind)
    batch = back.wait_event("_batch")
    assert [event.name for event in back.events()] == ["_settings", "_withdraw", "_batch"]
    assert back.wait_event("_withdraw").args == [{"id": id}]
    assert batch.args == [[["later", "later"]]]
    back.disconnect()
    again = connect(SITE, user, kind)
    connect.fence(SITE, user.room, again)
    assert "_withdraw" not in again.names()


@each_library
def test_settled_message_is_withdrawn_from_other_devices(
    tenant: Tenant, deployment: Deployment, connect: Connector, kind: ClientKind
) -> None:
    """With `settle=user` the first ack of a user withdraws the message from the user's other devices alone."""
    user, other = tenant.user("lobby"), tenant.user("lobby")
    phone = connect(SITE, user, kind, device="phone", ack=ACK_NONE)
    desk = connect(SITE, user, kind, device="desk", ack=ACK_NONE)
    stranger = connect(SITE, other, kind, ack=ACK_NONE)
    id = send(deployment, "lobby", "news", settle="user")
    events = [client.wait_event("news") for client in (phone, desk, stranger)]
    phone.ack(events[0])
    assert desk.wait_event("_withdraw").args == [{"id": id}]
    connect.fence(SITE, "lobby", phone, desk, stranger)
    assert without_fences(phone) == without_fences(stranger) == ["news"]


@each_library
def test_id_of_a_message(tenant: Tenant, deployment: Deployment, connect: Connector, kind: ClientKind) -> None:
    """With the option `id` the id and the time stand behind the arguments, live in front of the ack callback, in the
    entry of a `_batch`, and on a site without queues."""
    user, room = tenant.user(), tenant.unique("room")
    connect(SITE, user, kind).disconnect()
    wait_for(deployment, user, "d1", state="away")
    ids = [send(deployment, user.room, "named", id=True), send(deployment, user.room, "bare")]
    client = connect(SITE, user, kind)
    (named, bare) = client.wait_event("_batch").args[0]
    assert bare == ["bare", "bare"]
    assert named[:2] == ["named", "named"]
    _check_stamp(named[2:], ids[0])
    id = send(deployment, user.room, "live", id=True)
    live = client.wait_event("live")
    assert (live.args[0], live.wants_ack) == ("live", True)
    _check_stamp(live.args[1:], id)
    member = connect("plain", tenant.user(room), kind)
    id = send(deployment, room, "plain", "plain", id=True)
    plain = member.wait_event("plain")
    assert plain.args[0] == "plain"
    _check_stamp(plain.args[1:], id)


def _check_stamp(stamps: list[Any], id: str) -> None:
    (stamp,) = stamps
    assert stamp.keys() == {"id", "at"}
    assert stamp["id"] == id
    assert _TIME.fullmatch(stamp["at"])
