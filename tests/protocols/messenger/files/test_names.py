"""Names and types of files that strangers tell: harmless in headers, on disks and in the eyes of a reader."""

from __future__ import annotations

from email.message import Message
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocols.messenger.files.names import (
    MAX_NAME_BYTES,
    MAX_TYPE_CHARACTERS,
    clean_name,
    clean_type,
    disposition,
    served_type,
)


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ann\\a.txt", "a.txt"),
        ("..", ""),
        (".", ""),
        ("/", ""),
        ("a/", ""),
        (".htaccess", "htaccess"),
        ("a.txt. . ", "a.txt"),
        ("a\r\nb: c\0.txt", "ab: c.txt"),
        ("photo\u202egnp.exe", "photognp.exe"),
        ("\u200bzero\ufeff.txt", "zero.txt"),
        ("a  \t b.txt", "a b.txt"),
        ("e\u0301.txt", "\u00e9.txt"),
        ("\ud800a", "a"),
    ],
)
def test_names(told: str, kept: str) -> None:
    """Of a path the last part stays, without characters that nobody sees."""
    assert clean_name(told) == kept


def test_long_names() -> None:
    """A long name is cut between two characters and keeps its ending, unless that is long too."""
    cut = clean_name("\u00e4" * 300 + ".tar.gz")
    assert cut.endswith(".gz")
    assert len(cut.encode()) <= MAX_NAME_BYTES
    assert clean_name("a." + "b" * 300) == "a." + "b" * (MAX_NAME_BYTES - 2)


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("image/png", "image/png"),
        ("Text/HTML; charset=utf-7", "text/html"),
        ("image/png\r\nset-cookie: a", ""),
        ("image", ""),
        ("image/", ""),
        ("a/b/c", ""),
        ("x/" + "a" * MAX_TYPE_CHARACTERS, ""),
    ],
)
def test_types(told: str, kept: str) -> None:
    """A type is a media type without parameters, or none."""
    assert clean_type(told) == kept


@pytest.mark.parametrize(
    "kind",
    [
        *("text/html", "image/svg+xml", "application/xhtml+xml", "text/xml", "application/pdf", "text/javascript"),
        *("text/css", "application/wasm", "multipart/related", "message/rfc822", "application/x-shockwave-flash", ""),
    ],
)
def test_types_that_run(kind: str) -> None:
    """A type that a browser could run is bytes to be saved."""
    assert served_type(kind) == "application/octet-stream"
    assert disposition("a", kind).startswith("attachment")


@settings(deadline=None)
@given(st.text(st.characters(), max_size=400), st.text(max_size=200))
def test_any_name_is_one_header(name: str, kind: str) -> None:
    """Any name and type give one header of ASCII, whose file name is the clean one to those who read RFC 8187."""
    clean = clean_name(name)
    assert clean_name(clean) == clean
    header = disposition(clean, clean_type(kind))
    assert header.isascii()
    assert header.isprintable()
    message = Message()
    message["Content-Disposition"] = header
    if "filename*=" in header:
        assert unquote(header.partition("filename*=UTF-8''")[2], errors="strict") == clean
    elif clean:
        assert message.get_filename() == clean
    quoted = header.partition('filename="')[2].partition('"')[0]
    assert not set(quoted) & set('"\\/')
