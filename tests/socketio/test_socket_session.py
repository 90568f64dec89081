"""The namespaces of one session, and the way of each packet to one."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.socketio.socket_connection import ConnectRequest, NamespaceConnection
from app.socketio.socket_session import read_ack, read_known_ack
from tests.socketio.socket_case import Application, Client, make_server


@pytest.mark.parametrize(
    ("packet", "ack"),
    [
        (b"43/site,17[]", ("/site", 17)),
        ('43/é,5["a"]'.encode(), ("/é", 5)),
        (b'4317[1,",["]', ("/", 17)),
        (b"43/site,900719925474099[]", ("/site", 900_719_925_474_099)),
        (b"43/site,[]", None),
        (b"43/site,17", ("/site", 17)),
        (b"437", ("/", 7)),
        (b"43/site,1234567890123456", None),
        (b"43[]", None),
        (b"43/site[]", None),
        (b"43/site,-1[]", None),
        (b"43/site,1_0[]", None),
        (b"43/site,12345678901234567890[]", None),
        (b"43", None),
        (b"42/site,17[]", None),
        (b"", None),
    ],
)
def test_plain_acks(packet: bytes, ack: tuple[str, int] | None) -> None:
    """A plain ack is recognised from its bytes, any other form is left to `read_packet`."""
    assert read_ack(packet) == ack


async def test_acks_of_many_sessions() -> None:
    """Each session takes an ack for itself, also when another one has sent the same text for another namespace."""
    application = Application("/site", "/other")
    server = make_server(application)
    client, second = Client(server), Client(server)
    await client.send(b"40/site,")
    await second.send(b"40/other,")
    for one in (client, second, client):
        await one.send(b"43/site,17[]", b"43/other,18[]")
    long_ack = b'43/site,19["%b"]' % (b"x" * 500)
    before = read_known_ack.cache_info()
    await client.send(long_ack, long_ack)
    assert read_known_ack.cache_info() == before, "a long text is not kept"
    acks = ("/site", 17), ("/other", 18), ("/site", 17), ("/site", 19), ("/site", 19)
    assert application.heard == list(acks)


def test_known_acks_are_few_and_short() -> None:
    """The acks that are remembered are few: the oldest is forgotten."""
    for number in range(2_000):
        read_known_ack(b"43/site,%d[]" % number)
    assert read_known_ack.cache_info().currsize <= 64
    assert read_known_ack(b"43/site,7[]") == ("/site", 7)


@given(st.one_of(st.text(), st.text('0123456789-/,?[]{}"abc')))
def test_random_acks(text: str) -> None:
    """No text after the type makes the reader raise."""
    read_ack(("43" + text).encode())


async def test_unknown_namespace() -> None:
    """A namespace that no application serves is refused in the words of each version, without a connect()."""
    for version, refusal in ((4, b'44/x,{"message":"Invalid namespace"}'), (3, b'44/x,"Invalid namespace"')):
        application = Application("/site")
        client = Client(make_server(application), version)
        client.received()
        await client.send(b"40/x")
        assert client.received() == [refusal]
        assert application.requests == []
        assert client.engine.is_open


async def test_root_of_version_3_without_an_application() -> None:
    """Old clients are in the root namespace unasked, also without an application for it."""
    application = Application("/site")
    client = Client(make_server(application), version=3)
    assert client.received() == [b"40"]
    await client.send(b"40/site?token=1")
    assert client.received() == [b"40/site"]
    assert application.requests[0].packet_query == {"token": "1"}


async def test_root_of_version_3_with_an_application() -> None:
    """An application of the root namespace is asked, and the id is the session's."""
    application = Application("/", "/site")
    client = Client(make_server(application), version=3)
    await client.send(b"40/site,")
    assert client.received() == [b"40", b"40/site"]
    assert [connection.sid for connection in application.connections] == [
        client.engine.sid,
        f"/site#{client.engine.sid}",
    ]


async def test_ids_of_version_4() -> None:
    """A connection's id is not the session's, which is a secret of the client."""
    application = Application("/", "/site")
    client = Client(make_server(application))
    await client.send(b"40", b"40/site,")
    ids = {connection.sid for connection in application.connections}
    assert len(ids) == 2
    assert client.engine.sid not in ids


async def test_request() -> None:
    """connect() learns all that the client brought."""
    application = Application("/a", "/b")
    client = Client(make_server(application), query_string=b"EIO=4&token=1")
    await client.send(b'40/a,{"deviceId":"x"}')
    await client.send(b"40/b,")
    first, second = application.requests
    assert (first.namespace, first.engine_version, first.auth) == ("/a", 4, {"deviceId": "x"})
    assert (first.client_address, first.origins) == ("192.0.2.1", ("https://www.example.com",))
    assert first.handshake_query == second.handshake_query == {"EIO": "4", "token": "1"}
    assert second.auth is None


async def test_comma_tells_old_clients_apart() -> None:
    """A 2.x client, known by the comma, does not encode its text twice; a 1.x client may."""
    for packet, is_encoded_twice in ((b"40/site", True), (b"40/site?a=1", True), (b"40/site,", False)):
        client = Client(make_server(Application("/site")), version=3)
        await client.send(packet)
        assert client.engine.is_encoded_twice is is_encoded_twice


async def test_asking_twice() -> None:
    """A second CONNECT of the same namespace is ignored, as connect() called twice sends it."""
    application = Application("/site")
    client = Client(make_server(application))
    await client.send(b"40/site,", b"40/site,")
    await client.send(b"40/site,")
    assert len(application.connections) == 1
    assert len(client.received()) == 1


async def test_leaving_and_joining_again() -> None:
    """After a disconnect the namespace can be joined again."""
    application = Application("/site")
    client = Client(make_server(application))
    await client.send(b"40/site,")
    await client.send(b"41/site,", b"40/site,")
    await client.send(b"43/site,7[]")
    assert len(application.connections) == 2
    assert application.heard == [("/site", "client disconnect"), ("/site", 7)]


async def test_acks() -> None:
    """Acks reach the application from any namespace, in any form."""
    application = Application("/", "/a", "/b")
    client = Client(make_server(application))
    await client.send(b"40", b"40/a,", b"40/b,")
    await client.send(b"43/b,1[]", b'43/a,2["x"]', b"433[null]", b"43/b,4[]", b"43/b?token=1,5[]")
    assert application.heard == [("/b", 1), ("/a", 2), ("/", 3), ("/b", 4), ("/b", 5)]


async def test_acks_of_nobody() -> None:
    """Acks of a namespace that was left or never joined are ignored: they may have been under way."""
    application = Application("/site")
    client = Client(make_server(application))
    await client.send(b"40/site,")
    await client.send(b"41/site,", b"43/site,7[]", b"43/x,7[]", b"437[]", b'42/site,["a"]', b"41/site,")
    assert application.heard == [("/site", "client disconnect")]
    assert client.engine.is_open


async def test_ack_listener_of_a_connection() -> None:
    """An application may set the listener of its acks at connect; after the end none are heard."""
    application = Application("/", "/site")
    heard: list[tuple[str, int]] = []

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        connection.ack_received = lambda ack_id: heard.append((connection.namespace, ack_id))

    application.on_connect = connect
    client = Client(make_server(application))
    await client.send(b"40/site,", b"40")
    await client.send(b"43/site,7[]", b"438[]", b'461-/site,9[{"_placeholder":true,"num":0}]')
    client.engine.binary_received(b"x")
    assert heard == [("/site", 7), ("/", 8), ("/site", 9)]
    site = application.connections[0]
    site.disconnect()
    site.ack_received(10)
    assert (len(heard), application.heard) == (3, [("/site", "server disconnect")])


async def test_ack_listener_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """An ack that cannot be handled is logged, in every form; the session goes on."""
    application = Application("/", "/site")

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        def fail(ack_id: int) -> None:
            raise ZeroDivisionError

        connection.ack_received = fail

    application.on_connect = connect
    client = Client(make_server(application))
    await client.send(b"40/site,")
    await client.send(b"40")
    await client.send(b"437[]", b"43/site,7[]")
    assert [record.getMessage() for record in caplog.records] == ["an ack could not be handled"] * 2
    assert client.engine.is_open


async def test_events() -> None:
    """Events reach the application with arguments and id."""
    application = Application("/site")
    client = Client(make_server(application))
    await client.send(b"40/site,")
    await client.send(b'42/site,["a"]', b'42/site,7["b",1,null]')
    assert application.heard == [("/site", "a", [], None), ("/site", "b", [1, None], 7)]


async def test_nothing_is_heard_while_connecting() -> None:
    """Events and acks of a client that is not in yet are ignored."""
    application = Application("/site")
    go_on = asyncio.Event()

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        await go_on.wait()

    application.on_connect = connect
    client = Client(make_server(application))
    await client.send(b"40/site,", b'42/site,["a"]', b"43/site,7[]")
    assert application.heard == []
    go_on.set()
    await client.send()
    assert len(client.received()) == 1


async def test_binary_events() -> None:
    """A binary event waits for its attachments; binary acks are acks."""
    application = Application("/site")
    client = Client(make_server(application))
    await client.send(b"40/site,")
    await client.send(b'452-/site,7["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
    client.engine.binary_received(b"x")
    assert application.heard == []
    client.engine.binary_received(b"y")
    await client.send(b'461-/site,8[{"_placeholder":true,"num":0}]')
    client.engine.binary_received(b"z")
    assert application.heard == [("/site", "a", [b"x", b"y"], 7), ("/site", 8)]


@pytest.mark.parametrize(
    "packets",
    [
        [b"4abc"],
        [b"42/site,{}"],
        [b'42/site,abc["a"]'],
        [b"x"],
        [b'451-/site,["a",{"_placeholder":true,"num":0}]', b'42/site,["b"]'],
    ],
)
async def test_malformed_packets(packets: list[bytes]) -> None:
    """A malformed packet, also one in the place of an attachment, closes the session."""
    application = Application("/site")
    client = Client(make_server(application))
    await client.send(b"40/site,")
    await client.send(*packets)
    assert client.socket.closed_with == 1000
    assert application.heard == [("/site", "parse error")]


DEEP = b"[" * 100_000 + b"]" * 100_000
LONG = b"9" * 5_000
PLACEHOLDER = b'{"_placeholder":true,"num":0}'


@pytest.mark.parametrize(
    ("packets", "heard"),
    [
        # Acks without arguments count; ids that no client counts to, and none, are of no message.
        ([b"43/site,12"], [12]),
        ([b"43/site,12[]"], [12]),
        ([b"43/site?token=1,12"], [12]),
        ([b"43/site,12[" + DEEP + b"]"], [12]),
        ([b"461-/site,12", b"bYWJj"], [12]),
        ([b"43/site,1234567890123456[]"], []),
        ([b"43/site," + LONG], []),
        ([b"43/site,[]"], []),
        ([b"43/site,"], []),
        # A number is the name of an event like a text, and may ask for an ack.
        ([b'42/site,[7,"a"]'], [("7", ["a"], None)]),
        ([b"42/site,3[7]"], [("7", [], 3)]),
        ([b"42/site,[1.5]"], [("1.5", [], None)]),
        # Nothing is said by an event without payload, or by one that is nested too deeply.
        ([b"42/site,"], []),
        ([b"42/site,7"], []),
        ([b'42/site,["a",' + DEEP + b"]"], []),
        ([b'451-/site,["a",' + DEEP + b"]", b"bYWJj"], []),
        # Nor by one whose JSON is long: what it costs to read, others would wait.
        ([b'42/site,["a","' + b"x" * 70_000 + b'"]'], []),
        ([b'451-/site,["a","' + b"x" * 70_000 + b'"]', b"bYWJj"], []),
        ([b'40/other,{"token":"' + b"x" * 70_000 + b'"}'], []),
        # An ack to an event whose id no client counts to would answer nothing.
        ([b'42/site,12345678901234567["x"]'], [("x", [], None)]),
        # Binary messages may be spelled in text on a WebSocket too.
        ([b'451-/site,["x",' + PLACEHOLDER + b"]", b"bYWJj"], [("x", [b"abc"], None)]),
    ],
)
async def test_what_the_reference_server_takes(packets: list[bytes], heard: list[int | tuple[object, ...]]) -> None:
    """A packet that Socket.IO 4 on Node takes leaves the session open, and is heard or ignored as there."""
    application = Application("/site")
    client = Client(make_server(application, max_payload_bytes=1_000_000))
    await client.send(b"40/site,5")
    await client.send(*packets)
    assert client.engine.is_open
    assert application.heard == [("/site", one) if isinstance(one, int) else ("/site", *one) for one in heard]


@pytest.mark.parametrize("auth", [b'{"token":"' + b"x" * 70_000 + b'"}', b'{"token":' + DEEP[:30_000] + b"}"])
async def test_auth_that_is_not_read(auth: bytes) -> None:
    """A connect whose JSON is too long, or nested too deeply, is refused in words; the session goes on."""
    client = Client(make_server(Application("/site", "/other"), max_payload_bytes=1_000_000))
    await client.send(b"40/site,", b"40/other," + auth)
    refusal = b'44/other,{"message":"The auth of this connect is too long or nested too deeply"}'
    assert refusal in client.received()
    assert client.engine.is_open


@pytest.mark.parametrize("digits", [b"-" + LONG, b"9" * 200])
async def test_long_integers(digits: bytes) -> None:
    """An integer of any length is one to the reference server: the event is heard, and the session goes on."""
    application = Application("/site")
    client = Client(make_server(application, max_payload_bytes=1_000_000))
    await client.send(b"40/site,")
    await client.send(b'42/site,["a",' + digits + b"]")
    assert client.engine.is_open
    assert [name for _, name, *_ in application.heard] == ["a"]


async def test_nobody_reads_for_a_namespace_that_is_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """The JSON of an event in no joined namespace is not read; its attachments are awaited and not kept."""
    client = Client(make_server(Application("/site")))
    monkeypatch.setattr(json, "loads", lambda *_args, **_options: pytest.fail("it was read"))
    events = (b'42["a"]', b'42/site,["a"', b"42/x,{}", b'451-/site,["x",' + PLACEHOLDER + b"]", b"bYWJj", b"42{}")
    await client.send(*events)
    assert client.engine.is_open


async def test_attachments_are_bounded() -> None:
    """Attachments without an announcement, or over maxPayload together, close the session."""
    for packets, attachments in (([], [b"x"]), ([b'459-/site,["a"]'], [b"x" * 600, b"x" * 600])):
        application = Application("/site")
        client = Client(make_server(application, max_payload_bytes=1_000))
        await client.send(b"40/site,", *packets)
        for attachment in attachments:
            client.engine.binary_received(attachment)
        assert client.socket.closed_with == 1000


async def test_lost_transport_ends_every_namespace() -> None:
    """Each namespace hears of the end once, with the transport's reason."""
    application = Application("/a", "/b")
    client = Client(make_server(application))
    await client.send(b"40/a,", b"40/b,")
    client.engine.connection_lost(1006, "")
    client.engine.connection_lost(1006, "")
    assert application.heard == [("/a", "transport close"), ("/b", "transport close")]
    assert client.session.namespaces == {}


async def test_disconnect_within_an_event() -> None:
    """An application may end a connection while it handles its event."""
    application = Application("/site")
    application.on_event = lambda connection, _event: connection.disconnect()
    client = Client(make_server(application))
    await client.send(b"40/site,")
    await client.send(b'42/site,["a"]', b'42/site,["b"]')
    assert application.heard == [("/site", "a", [], None), ("/site", "server disconnect")]
