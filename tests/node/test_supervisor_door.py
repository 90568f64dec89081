"""The socket between workers and their supervisor."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from app.node import supervisor_door
from app.node.supervisor_door import SupervisorDoor, Wish, WishRefused, ask_supervisor
from app.store.node_calls import CallRefused


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder with a short path."""
    made = tempfile.mkdtemp(prefix="recado-")
    yield made
    shutil.rmtree(made)


async def test_a_wish_and_its_answer(folder: str) -> None:
    """The worker hears what will happen, or why nothing will."""

    def obey(wish: Wish) -> str:
        if wish.verb == "stop":
            raise WishRefused("not this one")
        return f"{wish.verb} {wish.number} {wish.at_once}"

    door = SupervisorDoor(folder, obey)
    await door.start()
    try:
        assert await ask_supervisor(folder, Wish("resize", 5)) == "resize 5 False"
        with pytest.raises(CallRefused, match="not this one"):
            await ask_supervisor(folder, Wish("stop", 1))
        for line in (b"{}\n", b"\xff\n", b'{"verb": "fly"}\n', b"[" * 5_000 + b"\n", b"x" * 50_000 + b"\n", b""):
            reader, writer = await asyncio.open_unix_connection(f"{folder}/supervisor.sock")
            writer.write(line)
            writer.write_eof()
            answer = await reader.read()
            assert not answer or b'"refusal":' in answer
            writer.close()
        assert await ask_supervisor(folder, Wish("roll")) == "roll 0 False"
    finally:
        await door.close()


async def test_a_supervisor_that_is_not_there(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket, or one that does not answer in time, is a refusal."""
    with pytest.raises(CallRefused, match="does not answer"):
        await ask_supervisor(folder, Wish("roll"))
    monkeypatch.setattr(supervisor_door, "_ANSWER_SECONDS", 0.1)
    ended = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    server = await asyncio.start_unix_server(say_nothing, f"{folder}/supervisor.sock")
    try:
        with pytest.raises(CallRefused, match="TimeoutError"):
            await ask_supervisor(folder, Wish("roll"))
    finally:
        ended.set()
        server.close()
