"""Links that count for a minute."""

from __future__ import annotations

import pytest

from app.protocols.messenger.files.links import LINK_SECONDS, link_to, user_of_link

SECRET, NOW = b"s" * 32, 1_000_000


def link_of(**changes: object) -> str:
    """The signed part of a link."""
    told = {"secret": SECRET, "site": "shop", "file": "f1", "user": 7, "now_ms": NOW} | changes
    return link_to(**told).partition("?link=")[2]  # type: ignore[arg-type]


def test_a_link() -> None:
    """A link names its user until its time is over."""
    assert user_of_link(SECRET, "shop", "f1", link_of(), NOW) == 7
    assert user_of_link(SECRET, "shop", "f1", link_of(), NOW + LINK_SECONDS * 1000 - 1) == 7
    assert user_of_link(SECRET, "shop", "f1", link_of(), NOW + LINK_SECONDS * 1000) is None


@pytest.mark.parametrize(
    "changes", [{"secret": b"x" * 32}, {"site": "news"}, {"file": "f2"}, {"user": 8}, {"now_ms": NOW + 1}]
)
def test_another_link(changes: dict[str, object]) -> None:
    """The signature of another link does not count, with whatever it is joined."""
    signature = link_of(**changes).rpartition(".")[2]
    mine = link_of().rpartition(".")[0]
    assert user_of_link(SECRET, "shop", "f1", f"{mine}.{signature}", NOW) is None


@pytest.mark.parametrize("link", ["", ".", "1.2.3", "-1.7." + "0" * 64, "1.7." + "\u0664" * 64, "1.7." + "A" * 64])
def test_no_link(link: str) -> None:
    """Any other text is no link."""
    assert user_of_link(SECRET, "shop", "f1", link, NOW) is None


def test_the_path_of_a_site() -> None:
    """A slash in the name of a site is no slash of the path."""
    assert link_to(SECRET, "a/b", "f1", 7, NOW).startswith("/a%2Fb/files/f1?link=")
