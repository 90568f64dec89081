"""A channel or a topic that is bound to a room: a message for either reaches both, once, with one id."""

import pytest

from app.config.settings import Site
from app.core.binds import extend
from app.core.message import Audience, Message
from tests.core.conftest import NodeStarter
from tests.core.test_audiences import Listener
from tests.support.store import heard, make_message, make_site
from tests.support.waiting import until

SITE = make_site(binds={"news": "Everyone", "mine": "user_1"})
PLAIN = make_site("plain", user_room_prefix=None, binds={"news": "Everyone"})
NEWS = Audience("channels", ["news"], bound_names=["news"])


class Kind:
    """A protocol that some sites have. Lives for one test."""

    def __init__(self, protocol: str, is_on: bool = True) -> None:
        self.protocol, self.is_on = protocol, is_on

    def published(self, site: Site, message: object) -> None:
        """Not asked here."""

    def missed(self, site: Site) -> None:
        """Not asked here."""

    def audience_of(self, site: Site, name: str) -> Audience | None:
        """The audience with this name."""
        return Audience(self.protocol, [name], bound_names=[name]) if self.is_on else None


LISTENERS = {"channels": Kind("channels"), "topics": Kind("topics"), "off": Kind("off", is_on=False)}


def told(message: Message) -> list[tuple[str, str]]:
    """Protocol and name of the audiences."""
    return [(audience.protocol, name) for audience in message.audiences for name in audience.names]


def test_a_push_to_a_bound_channel() -> None:
    """The push also goes to the room and to other audiences bound to the room, but not twice to the channel."""
    message = extend(make_message(SITE, [], audiences=[NEWS]), LISTENERS)
    assert (message.rooms, told(message)) == (["Everyone"], [("channels", "news"), ("topics", "news")])


@pytest.mark.parametrize("rooms", [["everyone"], ["other", "EVERYONE"]])
def test_a_send_to_a_bound_room(rooms: list[str]) -> None:
    """The send also goes to the channel and the topic bound to the room; shared rooms are compared without case."""
    message = extend(make_message(SITE, rooms), LISTENERS)
    assert (message.rooms, told(message)) == (rooms, [("channels", "news"), ("topics", "news")])


def test_case_of_rooms() -> None:
    """A user room is another room when written in another case; other rooms are the same, on both kinds of sites."""
    assert told(extend(make_message(SITE, ["USER_1"]), LISTENERS)) == []
    assert told(extend(make_message(SITE, ["user_1"]), LISTENERS)) == [("channels", "mine"), ("topics", "mine")]
    for room in ("everyone", "Everyone"):
        assert told(extend(make_message(PLAIN, [room]), LISTENERS)) == [("channels", "news"), ("topics", "news")]


def test_whispers_and_other_names_stay_where_they_are() -> None:
    """An audience without bound names, or with a name that is not bound, goes to no room."""
    for audience in (Audience("channels", ["news"]), Audience("channels", ["x"], bound_names=["x"])):
        message = extend(make_message(SITE, [], audiences=[audience]), LISTENERS)
        assert (list(message.rooms), message.audiences) == ([], (audience,))


def test_the_servers_own_events_reach_no_room() -> None:
    """An event that the clients in a room would take for the server's own stays with the channel."""
    message = extend(make_message(SITE, [], "_resync", audiences=[NEWS]), LISTENERS, {"_resync"})
    assert (list(message.rooms), told(message)) == ([], [("channels", "news")])


def test_two_channels_bound_to_one_room() -> None:
    """They are one audience of their protocol, whether one of them or the room is addressed."""
    site = make_site(binds={"news": "Everyone", "also": "Everyone"})
    pushed = extend(make_message(site, [], audiences=[NEWS]), {"channels": LISTENERS["channels"]})
    sent = extend(make_message(site, ["everyone"]), {"channels": LISTENERS["channels"]})
    for message in (pushed, sent):
        assert [tuple(audience.names) for audience in message.audiences] == [("news", "also")]


@pytest.mark.parametrize("site", [SITE, PLAIN], ids=["queues", "no queues"])
async def test_one_message_over_both_doors(start_node: NodeStarter, site: Site) -> None:
    """Over two nodes, a push and a send reach the devices in the room and the audience, with one seq and one order."""
    one, two = await start_node(site), await start_node(site)
    listener = Listener(one)
    Listener(two)
    await listener.audiences.join(site, ["news"])
    device = await two.open(site, ["user_1", "Everyone"])
    await two.delivery.publish(make_message(site, [], body=b'["news","a"]', audiences=[NEWS]))
    sent = await one.publish(site, "Everyone", "score")
    assert await heard(device, 2) == [b'["news","a"]', sent]
    await until(lambda: listener.heard == [b'["news","a"]', sent], "the channel to hear")
    assert listener.seqs == device.seqs
