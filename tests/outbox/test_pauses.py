"""The back-off of a server and of sites."""

from __future__ import annotations

from app.outbox.pauses import FIRST_SECONDS, LONGEST_SECONDS, Pauses


def test_a_pause_doubles() -> None:
    """Each failure doubles the pause, up to the longest; a success begins it from the start."""
    pauses, now = Pauses(), 100.0
    lasted = []
    for _ in range(12):
        pauses.fail("shop", now, 0, "429")
        left = pauses.seconds_left(now)
        assert left is not None
        lasted.append(left)
        now += left
    assert lasted[:3] == [FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS]
    assert lasted[-1] == LONGEST_SECONDS
    assert pauses.succeed("shop", "news") == ["shop"]
    pauses.fail("shop", now, 0, "429")
    assert pauses.seconds_left(now) == FIRST_SECONDS


def test_the_server_is_asked_when_it_says() -> None:
    """A time that the server asks for is kept, within the longest pause."""
    pauses = Pauses()
    pauses.fail("shop", 0.0, 3.0, "429")
    assert pauses.seconds_left(0.0) == 3.0
    pauses.fail("news", 0.0, 1e9, "429")
    assert pauses.open_sites(["shop", "news"], 4.0) == ["shop"]
    assert pauses.open_sites(["shop", "news"], LONGEST_SECONDS) == ["shop", "news"]
    assert pauses.seconds_left(LONGEST_SECONDS) is None


def test_a_server_holds_every_site() -> None:
    """While the server waits no site is tried; a site waits alone."""
    pauses = Pauses()
    assert pauses.open_sites(["shop", "news"], 0.0) == ["shop", "news"]
    pauses.fail("shop", 0.0, 10.0, "429")
    assert pauses.open_sites(["shop", "news"], 1.0) == ["news"]
    pauses.fail("", 1.0, 0, "503")
    assert pauses.open_sites(["shop", "news"], 1.0) == []


def test_a_reason_is_news_once() -> None:
    """The same reason again is no news, another one is."""
    pauses = Pauses()
    told = [pauses.fail("", float(now), 0, reason) for now, reason in enumerate(("503", "503", "no answer", "503"))]
    assert told == [True, False, True, True]
