"""The headers of tus 1.0 as values. Pure: bytes in, values or RequestRefused out."""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from email.utils import formatdate

from msgspec import Struct

from app.errors import RequestRefused
from app.protocols.messenger.files.names import clean_name, clean_type

VERSION = b"1.0.0"
EXTENSIONS = b"creation,creation-with-upload,expiration,termination,checksum"
#: The type of a body with bytes of a file.
OFFSET_TYPE = b"application/offset+octet-stream"
#: The longest Upload-Metadata, and the pairs in it.
MAX_METADATA_BYTES = 4_096
MAX_METADATA_PAIRS = 32
#: The status of tus for bytes that are not those of Upload-Checksum.
CHECKSUM_MISMATCH = 460
#: The name of an algorithm in Upload-Checksum -> its name in hashlib.
ALGORITHMS = {b"sha1": "sha1", b"sha256": "sha256", b"sha512": "sha512", b"md5": "md5"}
_NUMBER = re.compile(rb"\d{1,18}")
_METADATA_KEY = re.compile(rb"[!-+\--~]+")


class Checksum(Struct, frozen=True):
    """The digest that the bytes of a request are to have. Lives as long as the request."""

    algorithm: str
    digest: bytes


class NewFile(Struct, frozen=True):
    """A file that a client wants to upload. Lives as long as the request."""

    size: int
    name: str
    type: str
    #: Upload-Metadata as sent.
    metadata: str


def check_version(headers: Mapping[bytes, bytes]) -> None:
    """Raises RequestRefused for another version of tus."""
    if headers.get(b"tus-resumable") != VERSION:
        raise RequestRefused("Tus-Resumable: expected 1.0.0.", "bad_version", 412)


def read_new_file(headers: Mapping[bytes, bytes]) -> NewFile:
    """The file of a creation. Raises RequestRefused."""
    if b"upload-defer-length" in headers:
        raise RequestRefused("Upload-Defer-Length: expected Upload-Length, the size has to be known.", "bad_request")
    metadata = headers.get(b"upload-metadata", b"")
    told = _read_metadata(metadata)
    name = told.get("filename", told.get("name", ""))
    kind = told.get("filetype", told.get("type", ""))
    size = read_number(headers, b"upload-length", "Upload-Length")
    return NewFile(size, clean_name(name), clean_type(kind), metadata.decode("latin-1"))


def read_number(headers: Mapping[bytes, bytes], name: bytes, shown: str) -> int:
    """The number in a header. Raises RequestRefused."""
    found = _NUMBER.fullmatch(headers.get(name, b""))
    if found is None:
        raise RequestRefused(f"{shown}: expected a number of bytes.", "bad_request")
    return int(found[0])


def _read_metadata(header: bytes) -> dict[str, str]:
    """The pairs of Upload-Metadata; a value that is no UTF-8 has marks in the place of its bytes."""
    if len(header) > MAX_METADATA_BYTES:
        raise RequestRefused(f"Upload-Metadata: expected at most {MAX_METADATA_BYTES} bytes.", "too_long")
    pairs = [pair.strip().partition(b" ") for pair in header.split(b",")] if header.strip() else []
    if len(pairs) > MAX_METADATA_PAIRS:
        raise RequestRefused(f"Upload-Metadata: expected at most {MAX_METADATA_PAIRS} pairs.", "too_many")
    found: dict[str, str] = {}
    for key, _, value in pairs:
        if not _METADATA_KEY.fullmatch(key) or key.decode() in found:
            raise RequestRefused("Upload-Metadata: expected pairs of a key and a value, each key once.", "bad_request")
        found[key.decode()] = _decoded(value.strip(), "Upload-Metadata").decode("utf-8", "replace")
    return found


def read_checksum(headers: Mapping[bytes, bytes]) -> Checksum | None:
    """The digest in Upload-Checksum; None without the header. Raises RequestRefused."""
    header = headers.get(b"upload-checksum")
    if header is None:
        return None
    algorithm, _, value = header.strip().partition(b" ")
    if algorithm not in ALGORITHMS:
        expected = ", ".join(name.decode() for name in ALGORITHMS)
        raise RequestRefused(f"Upload-Checksum: expected one of {expected}.", "bad_request")
    digest = _decoded(value.strip(), "Upload-Checksum")
    if len(digest) != new_hash(ALGORITHMS[algorithm]).digest_size:
        raise RequestRefused("Upload-Checksum: expected a digest of this algorithm, in base64.", "bad_request")
    return Checksum(ALGORITHMS[algorithm], digest)


def new_hash(algorithm: str) -> "hashlib._Hash":
    """A digest that has seen no byte. It finds faults of the way and proves nothing, so a broken algorithm will do."""
    return hashlib.new(algorithm, usedforsecurity=False)


def expires_text(expires_at: int) -> str:
    """A time in ms as Upload-Expires has it."""
    return formatdate(expires_at / 1000, usegmt=True)


def _decoded(value: bytes, header: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise RequestRefused(f"{header}: expected base64.", "bad_request") from None
