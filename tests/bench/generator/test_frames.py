"""The generator's frames are those that RFC 6455 asks of a client."""

import pytest

from bench.generator.frames import CLOSE, client_frame, cut_frame, server_frame, upgrade_request


def unmask(frame: bytes, head_bytes: int) -> bytes:
    """Undo the mask as a server does, byte by byte."""
    mask, payload = frame[head_bytes : head_bytes + 4], frame[head_bytes + 4 :]
    return bytes(value ^ mask[index % 4] for index, value in enumerate(payload))


@pytest.mark.parametrize(("size", "head_bytes"), [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)])
def test_client_frame_is_masked_at_every_length(size: int, head_bytes: int) -> None:
    """A server that unmasks a client frame finds the payload, whichever of the three length forms is used."""
    payload = bytes(index % 251 for index in range(size))
    frame = client_frame(payload)
    assert frame[0] == 0x81
    assert frame[1] & 0x80
    assert frame[head_bytes : head_bytes + 4] != bytes(4)
    assert unmask(frame, head_bytes) == payload


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_a_server_frame_is_cut_where_it_was_joined(size: int) -> None:
    """Each of two frames in one read is found, and a frame that lacks its last byte is not."""
    frame = server_frame(b"x" * size)
    begin, end = cut_frame(frame + server_frame(b"next"), 0)
    assert (end - begin, end) == (size, len(frame))
    assert cut_frame(frame[:-1], 0) == (0, 0)
    begin, end = cut_frame(frame + server_frame(b"next"), end)
    assert (frame + server_frame(b"next"))[begin:end] == b"next"


def test_opcode_and_upgrade_request() -> None:
    """A close frame bears its opcode; the upgrade request ends with an empty line and asks for the path."""
    assert client_frame(b"", CLOSE)[0] == 0x88
    request = upgrade_request("127.0.0.1:1", "/socket.io/?EIO=4")
    assert request.startswith(b"GET /socket.io/?EIO=4 HTTP/1.1\r\n")
    assert request.endswith(b"\r\n\r\n")
