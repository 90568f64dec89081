"""The use of a namespace connection by its application, and the order in which packets leave."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from app.socketio.engine_packet import EncodedPacket
from app.socketio.engine_session import SERVER_DISCONNECT
from app.socketio.socket_connection import ConnectRefused, ConnectRequest, NamespaceConnection
from tests.socketio.socket_case import PACKET, Application, Client, make_server


async def joined(version: int = 4) -> tuple[NamespaceConnection, Client, Application]:
    """A connection in /site, with nothing written yet."""
    application = Application("/site")
    client = Client(make_server(application), version)
    await client.send(b"40/site,")
    client.received()
    return application.connections[0], client, application


async def test_nothing_leaves_before_the_connect_packet() -> None:
    """Packets sent within connect() are held until it confirms or returns; they follow the CONNECT packet in order."""
    application = Application("/site")

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        connection.send_event("first", [b"\x01"])
        connection.send_encoded(PACKET)
        connection.send_event("last", [])
        assert client.received() == []

    application.on_connect = connect
    client = Client(make_server(application))
    await client.send(b"40/site,")
    connected, *rest = client.received()
    assert connected == b'40/site,{"sid":"%b"}' % application.connections[0].sid.encode()
    assert rest == [
        b'451-/site,["first",{"_placeholder":true,"num":0}]',
        b"\x01",
        PACKET.packet,
        b'42/site,["last"]',
    ]


async def test_confirm_within_connect() -> None:
    """After confirm() packets leave at once; a return does not confirm again."""
    application = Application("/site")

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        connection.confirm()
        connection.send_encoded(PACKET)
        assert len(client.received()) == 2

    application.on_connect = connect
    client = Client(make_server(application))
    await client.send(b"40/site,")
    assert client.received() == []


@pytest.mark.parametrize(("version", "refusal"), [(4, b'44/site,{"message":"no"}'), (3, b'44/site,"no"')])
async def test_refused(version: int, refusal: bytes) -> None:
    """A refused client is told why, gets none of the held packets, and keeps its transport."""
    application = Application("/site")

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        connection.send_encoded(PACKET)
        raise ConnectRefused("no")

    application.on_connect = connect
    client = Client(make_server(application), version)
    client.received()
    await client.send(b"40/site,")
    assert client.received() == [refusal]
    assert client.engine.is_open
    assert application.heard == [("/site", "connect refused")]
    connection = application.connections[0]
    connection.confirm()
    connection.send_encoded(PACKET)
    assert client.received() == []
    await client.send(b"40/site,")
    assert client.received() == [refusal], "it may try again"


async def test_hot_path() -> None:
    """An encoded packet goes to the socket as its ready frame."""
    for version, text in ((4, '["é"]'.encode()), (3, b'["\\u00e9"]')):
        connection, client, _ = await joined(version)
        connection.send_encoded(EncodedPacket('42/site,["é"]'.encode()))
        assert client.received() == [b"42/site," + text]
        assert connection.engine_version == version
        assert connection.buffered_bytes == client.socket.buffered_bytes


@pytest.mark.parametrize("version", [4, 3])
async def test_hot_path_is_the_sockets_own(version: int) -> None:
    """A confirmed connection sends with the WebSocket's own method, whose frames are those of version 4, or else with
    the session's; a closed one sends nothing."""
    connection, client, _ = await joined(version)
    assert connection.send_encoded == (client.socket.write_packet if version == 4 else client.engine.send_encoded)
    connection.disconnect()
    client.received()
    connection.send_encoded(PACKET)
    assert client.received() == []


async def test_receiver_follows() -> None:
    """A receiver's copy of the hot path is that of the connection: before the answer, behind it, and at the end."""
    application = Application("/site")
    copies = []

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        receiver = connection.receiver = SimpleNamespace(send=connection.send_encoded)
        copies.append(receiver)
        receiver.send(PACKET)
        assert client.received() == []

    application.on_connect = connect
    client = Client(make_server(application))
    client.received()
    await client.send(b"40/site,")
    assert client.received()[1:] == [PACKET.packet]
    (connection,), (copy,) = application.connections, copies
    assert copy.send == connection.send_encoded == client.socket.write_packet
    connection.disconnect()
    client.received()
    copy.send(PACKET)
    assert client.received() == []


async def test_hot_path_of_a_session_that_moves() -> None:
    """A polling session that moves to a WebSocket sends on it; one that is about to end sends nothing more."""
    server = make_server(Application("/site"))
    client = Client(server, on_socket=False)
    await client.send(b"40/site,")
    (connection,) = client.session.namespaces.values()
    connection.receiver = copy = SimpleNamespace(send=connection.send_encoded)
    assert copy.send == client.engine.send_encoded
    client.engine.offer_socket(client.socket)
    client.engine.take_socket(client.socket)
    client.received()
    assert copy.send == client.socket.write_packet
    copy.send(PACKET)
    assert client.received() == [PACKET.packet]
    client.engine.close(SERVER_DISCONNECT)
    copy.send(PACKET)
    assert client.received() == [], "an ack of it might come too late"


async def test_outbox_that_overflows_within_confirm() -> None:
    """A session that is closed by the first packet of a connection gets none behind it."""
    application = Application("/site")

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        connection.send_encoded(PACKET)
        write = client.socket.write_frame

        def close(frame: bytes) -> None:
            write(frame)
            client.engine.connection_lost(1006, "")

        client.socket.write_frame = close  # type: ignore[method-assign]

    application.on_connect = connect
    client = Client(make_server(application))
    await client.send(b"40/site,")
    assert len(client.received()) == 1
    assert application.connections[0].is_closed
    application.connections[0].send_encoded(PACKET)
    assert client.received() == []
    assert application.heard == [("/site", "transport close")]


async def test_acks_and_events_of_one_client() -> None:
    """Events with and without an id, and the answer to a client's own."""
    connection, client, _ = await joined()
    connection.send_event("a", [1, None], 5)
    connection.send_event("a", [])
    connection.send_ack(9, ["é"])
    connection.send_ack_body(10, '["é"]'.encode())
    events = [b'42/site,5["a",1,null]', b'42/site,["a"]']
    assert client.received() == [*events, b'43/site,9["\\u00e9"]', '43/site,10["é"]'.encode()]


async def test_disconnect() -> None:
    """A client that is removed is told behind earlier packets; then nothing is sent; the session stays."""
    connection, client, application = await joined()
    connection.send_encoded(PACKET)
    connection.disconnect()
    connection.disconnect()
    connection.send_encoded(PACKET)
    connection.send_event("a", [])
    assert connection.is_closed
    assert client.received() == [PACKET.packet, b"41/site,"]
    assert application.heard == [("/site", "server disconnect")]
    assert client.engine.is_open


async def test_disconnect_with_the_transport() -> None:
    """The transport can be closed along with it."""
    connection, client, application = await joined()
    connection.disconnect(close_transport=True)
    assert client.received() == [b"41/site,"]
    assert not client.engine.is_open
    assert application.heard == [("/site", "server disconnect")]


async def test_disconnected_while_connecting() -> None:
    """A connection that ends while connect() runs is told so once; later calls of connect() have no effect."""
    application = Application("/site")
    go_on = asyncio.Event()

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        await go_on.wait()
        assert connection.is_closed
        connection.confirm()
        connection.send_encoded(PACKET)

    application.on_connect = connect
    client = Client(make_server(application))
    await client.send(b"40/site,", b"41/site,")
    assert application.heard == [("/site", "client disconnect")]
    go_on.set()
    await client.send()
    assert client.received() == []
    assert application.heard == [("/site", "client disconnect")]
    assert client.engine.is_open


async def test_requests_hide_secrets() -> None:
    """Neither token nor headers are in the request's repr."""
    application = Application("/site")
    client = Client(make_server(application), query_string=b"token=s3cret")
    await client.send(b'40/site,{"token":"s3cret"}')
    request = application.requests[0]
    assert request.auth == {"token": "s3cret"}
    assert request.handshake_query == {"token": "s3cret"}
    assert "s3cret" not in repr(request)
