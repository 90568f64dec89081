"""Texts of push0k as text with marks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocols.messenger.push0k.texts import fault_text, link_text, plain_text

QUOTED = "45cee4ef-4827-4dac-9b35-a6c814760ea9"
QUOTE = (
    f'see <blockquote>&#10075;&#10075;&nbsp;<a href="#{QUOTED}">Ann</a><br>\r\nhello\r\nthere&nbsp;&#10076;&#10076;'
    "</blockquote>yes"
)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("plain", "plain"),
        ("a &lt;b&gt; &amp;amp; &quot;x&quot; &#x2F; &#39;", 'a <b> &amp; "x" / \''),
        ("<b>bold</b> <i>it</i> <u>u</u>", "**bold** *it* __u__"),
        ("one<br>two<br>&emsp;&emsp;three", "one\ntwo\n\tthree"),
        ("<script>alert(1)</script><img src=x>", "<script>alert(1)</script><img src=x>"),
        ('<a href="javascript:alert(1)">x</a>', "x"),
        ("<b>open", "**open"),
        ("</span></blockquote>x", "x"),
        (
            "so: <span class=operator>If</span> <span class=variable>a</span><span class=operator>=</span>"
            "<span class=variable>1</span> then",
            "so: `If a=1` then",
        ),
        (
            '<span class=variable>a</span><br><span class=text>"<b>"</span> <span class=operator><</span>',
            '```\na\n"<b>" <\n```',
        ),
        ("", ""),
    ],
)
def test_marks(html: str, text: str) -> None:
    """Tags of push0k's server are marks again, its escapes are characters, and everything else is text."""
    assert plain_text(html).text == text


def test_a_quote() -> None:
    """A quote is lines of a quote, with the id of the quoted message here, or without one that is not here."""
    found = plain_text(QUOTE)
    assert found.quoted == (QUOTED,)
    assert found.with_ids({QUOTED: 12}) == "see \n> [#12] Ann\n> hello\n> there\nyes"
    assert found.with_ids({}) == "see \n> Ann\n> hello\n> there\nyes"


def test_links_and_faults() -> None:
    """A link is its URL; of an error of the server only the ends of lines were tags."""
    assert link_text('<a href="https://a.example/?b=1&amp;c">https://a.example/</a>') == "https://a.example/?b=1&c"
    assert link_text("no <b>link</b>") == "no **link**"
    assert fault_text("Error <br> at <anonymous> <br> x") == "Error\nat <anonymous>\nx"


@given(st.lists(st.sampled_from(["<b>", "</b>", "<blockquote>", "</blockquote>", "<br>", "<span class=text>", "</span>",
                                 f'<a href="#{QUOTED}">', "</a>", "a", "&", "<", "\n", "\u2003\u2003"])))  # fmt: skip
def test_any_text(pieces: list[str]) -> None:
    """No text raises, in whatever order its tags come."""
    found = plain_text("".join(pieces))
    assert isinstance(found.with_ids({QUOTED: 1}), str)
