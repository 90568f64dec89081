"""The headers of tus as values, and nothing but refusals for what is none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import RequestRefused
from app.protocols.messenger.files.tus_headers import (
    NewFile,
    expires_text,
    read_checksum,
    read_new_file,
    read_number,
)


def test_new_file() -> None:
    """The names of tus-js-client and of other clients are known; the header is kept as it came."""
    told = {b"upload-length": b"7", b"upload-metadata": b"filename YS5wbmc=, filetype aW1hZ2UvcG5n,empty"}
    assert read_new_file(told) == NewFile(7, "a.png", "image/png", told[b"upload-metadata"].decode())
    other = {b"upload-length": b"0", b"upload-metadata": b"name YQ==,type dGV4dC9wbGFpbg=="}
    assert read_new_file(other) == NewFile(0, "a", "text/plain", "name YQ==,type dGV4dC9wbGFpbg==")
    assert read_new_file({b"upload-length": b"1"}) == NewFile(1, "", "", "")


def test_bytes_that_are_no_text() -> None:
    """A name that is no UTF-8 has marks in place of its bytes."""
    told = {b"upload-length": b"1", b"upload-metadata": b"filename /w=="}
    assert read_new_file(told).name == "\ufffd"


def test_time() -> None:
    """The end of an upload stands there as HTTP writes times."""
    assert expires_text(0) == "Thu, 01 Jan 1970 00:00:00 GMT"


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([b"upload-metadata", b"upload-length", b"upload-checksum"]), st.binary()))
def test_any_bytes(headers: dict[bytes, bytes]) -> None:
    """Any bytes are a value or a refusal."""
    for read in (read_new_file, read_checksum, lambda told: read_number(told, b"upload-length", "Upload-Length")):
        with contextlib.suppress(RequestRefused):
            read(headers)


@pytest.mark.parametrize("value", [b"sha1 " + b"A" * 27 + b"=", b"md5 1B2M2Y8AsgTpgAmY7PhCfg=="])
def test_checksums(value: bytes) -> None:
    """A digest of the right length counts."""
    found = read_checksum({b"upload-checksum": value})
    assert found is not None
    assert found.algorithm == value.split()[0].decode()
