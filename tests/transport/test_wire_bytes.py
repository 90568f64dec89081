"""The bytes of a socket as the kernel counts them, on real sockets."""

import asyncio
from pathlib import Path

from app.transport.wire_bytes import wire_bytes
from tests.support.waiting import until
from tests.transport.serving import TEXT, FastLane, Recorder, client_frame, serving
from tests.transport.tls import Certificate


async def test_bytes_of_a_websocket() -> None:
    """Both ways are counted with the head of the upgrade, and still known when the listener hears of the end."""
    application = FastLane()
    async with serving(application) as served:
        peer = await served.peer()
        recorder = application.recorders[0]
        counted: list[tuple[int, int] | None] = []
        lost = recorder.connection_lost

        def count_at_end(code: int, reason: str) -> None:
            counted.append(recorder.connection.wire_bytes())
            lost(code, reason)

        recorder.connection_lost = count_at_end  # type: ignore[method-assign]
        before = await _acknowledged(recorder, 100)
        peer.writer.write(client_frame(TEXT, b"x" * 1_000))
        await recorder.until_received(1)
        recorder.connection.write_text(b"y" * 5_000)
        after = await _acknowledged(recorder, before[1] + 5_000)
        assert after[0] - before[0] >= 1_000
        peer.writer.close()
        await recorder.until_lost()
        assert counted[0] is not None
        assert counted[0][0] >= after[0]
        assert counted[0][1] >= after[1]


async def test_bytes_under_tls(certificate: Certificate) -> None:
    """The bytes of TLS itself are part of the count."""
    application = FastLane()
    files = {"ssl_certfile": certificate.certificate, "ssl_keyfile": certificate.key}
    async with serving(application, **files) as served:
        await served.peer(context=certificate.client_context)
        read, written = await _acknowledged(application.recorders[0], 1_000)
        assert read > 300
        assert written > 1_000


async def test_a_socket_that_is_no_tcp(tmp_path: Path) -> None:
    """A unix socket does not tell."""
    found: list[tuple[int, int] | None] = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.append(wire_bytes(writer.transport))
        writer.close()

    path = str(tmp_path / "s")
    async with await asyncio.start_unix_server(connected, path):
        _, writer = await asyncio.open_unix_connection(path)
        await until(lambda: found, "the connection")
        writer.close()
    assert found == [None]


async def _acknowledged(recorder: Recorder, written: int) -> tuple[int, int]:
    """The bytes, once the peer's kernel has acknowledged so many."""
    found = await until(lambda: (now := recorder.connection.wire_bytes()) and now[1] >= written and now, "the bytes")
    assert isinstance(found, tuple)
    return found
