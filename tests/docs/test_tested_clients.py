"""The page of tested clients: it is written by the tests, and every client of the browsers is on it."""

from __future__ import annotations

import pytest

from tests.support.bundles import VERSIONS
from tests.support.matrix import FACTS, PAGE, Rows, differences, join, read_page, write_page

ROW = ("Sites", "a client", "polling")
ALL = {"connect", "events", "acknowledgement", "replay"}


def test_page_is_as_written() -> None:
    """The page is what its rows are written as: nobody has edited it."""
    text = PAGE.read_text()
    assert write_page(read_page(text)) == text


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_with_its_default_transports(version: str) -> None:
    """Each version connects from a browser with its default transports, gets events, acknowledges and has replays."""
    row = ("Sites", f"socket.io-client {version} in Chromium", "polling, then WebSocket")
    assert read_page(PAGE.read_text())[row] >= ALL


def test_differences() -> None:
    """A run says what the page lacks; only a whole run says what no test shows any more."""
    shown: Rows = {ROW: {"connect", "events"}}
    page: Rows = {ROW: {"connect", "replay"}}
    lacking, stale = [f"lacks {ROW}: events"], [f"no test shows {ROW}: replay"]
    assert differences(shown, page, is_whole=False) == lacking
    assert differences(shown, page, is_whole=True) == lacking + stale
    assert differences(page, page, is_whole=True) == []


def test_order_of_facts() -> None:
    """The facts of a row are in their order."""
    line = f"| a client | polling | {', '.join(FACTS)} |"
    assert line in write_page({ROW: set(FACTS)})


def test_some_tests_add_to_the_page() -> None:
    """A run of some tests adds its facts to those of the page."""
    other = ("Topics", "a client", "polling")
    assert join({ROW: {"events"}}, {ROW: {"connect"}, other: {"connect"}}) == {
        ROW: {"connect", "events"},
        other: {"connect"},
    }
