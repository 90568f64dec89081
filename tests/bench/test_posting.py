"""The backends of the scenario `large` repeat what was not stored, and count what they waited for."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bench.posting import Bystander, Poster
from bench.processes import BenchError

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nnot"


@contextmanager
def answering(*answers: bytes, connections: int = 1) -> Iterator[tuple[str, int]]:
    """A server that gives these answers, the last one for ever. Each of several connections gets one and is closed."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        left = list(answers)
        for _ in range(connections):
            sock, _ = listening.accept()
            with sock:
                while sock.recv(65536):
                    sock.sendall(left.pop(0) if len(left) > 1 else left[0])
                    if connections > 1:
                        break

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()
    listening.close()
    thread.join(20)


def await_true(is_true: Callable[[], bool]) -> None:
    """Wait for what a thread does."""
    pause = threading.Event()
    for _ in range(6_000):
        if is_true():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come true")


def test_a_send_that_is_not_stored_is_repeated() -> None:
    """A 503 is counted, and the message is sent again until it is answered 200."""
    with answering(_UNAVAILABLE, _UNAVAILABLE, _OK) as address:
        poster = Poster(address, "crowd", "k")
        poster.post(["all"], 3)
        poster.post(["all"], 4)
        assert poster.refused == 2
        poster.close()


def test_a_connection_that_was_closed_while_idle_is_opened_again() -> None:
    """A server ends idle connections; the next message takes a new one."""
    with answering(_OK, connections=2) as address:
        poster = Poster(address, "crowd", "k")
        poster.post(["all"], 1)
        await_true(lambda: poster.is_closed)
        poster.post(["all"], 2)
        poster.close()


def test_another_answer_is_an_error() -> None:
    """A measurement does not go on after a refusal."""
    with answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") as address:
        poster = Poster(address, "crowd", "k")
        with pytest.raises(BenchError, match="403"):
            poster.post(["all"], 1)
        poster.close()


def test_a_bystander_measures_each_send() -> None:
    """The delays of all sends are kept; their percentiles are in order."""
    with answering(_OK) as address, Bystander(lambda: Poster(address, "other", "k"), 1, 200.0) as bystander:
        await_true(lambda: len(bystander.delays_seconds) >= 5)
    assert 0 < bystander.percentile_ms(50) <= bystander.percentile_ms(100)


def test_a_bystander_that_fails_says_so() -> None:
    """An answer that is no success ends the run with an error."""
    refused = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    with answering(refused) as address:
        bystander = Bystander(lambda: Poster(address, "other", "k"), 1, 200.0)
        bystander.__enter__()
        await_true(lambda: bystander.has_failed)
        with pytest.raises(BenchError, match="bystander"):
            bystander.__exit__(None, None, None)
