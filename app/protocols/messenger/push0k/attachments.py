"""The attachments of push0k in their folder: JSON files with the bytes as base64, one for a message or for each part.

A file is mapped and its text decoded piece by piece: memory does not grow with its size.
"""

import binascii
import json
import mmap
import os
import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from app.errors import RecadoError
from app.protocols.messenger.files.names import clean_name
from app.protocols.messenger.push0k.source_rows import PushMessage

#: The parts of one attachment: push0k's own bound of 1 GB in parts of 4 MB has 256.
MAX_PARTS_OF_ATTACHMENT = 16_384
#: The longest file of a part, of which a mapping needs the addresses alone.
MAX_PART_FILE_BYTES = 2_147_483_648
_PIECE_CHARACTERS = 1_048_576
_BEGIN = b'"binary":"'
_PARTS_COUNT = re.compile(rb'"PartsCount":(\d{1,6})\b')
#: The begin of the bytes of a browser's client: `data:image/png;base64,`.
_DATA_URL = re.compile(rb"data:[^,]{0,256},")
_BLANKS = re.compile(rb"\\[rnt]|\\(?=/)|\s+")
_ENDING = re.compile(r"\.\w{1,10}$")
#: The fields of a client's own JSON that may hold a name.
_NAME_FIELDS = ("name", "filename", "fileName", "file")


class AttachmentLost(RecadoError):
    """An attachment is not there, or not whole; the text names its file."""


def attachment_name(message: PushMessage) -> str:
    """The name of the file: the first that looks like one, in what goes with the message or in its text."""
    told = [*_names_in(message.extra), *_names_in(message.text)]
    named = [name for name in map(clean_name, told) if name]
    return next((name for name in named if _ENDING.search(name)), named[0] if named else message.id)


def _names_in(text: str) -> Iterator[str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        yield text[:1_024]
        return
    if isinstance(found, dict):
        yield from (found[name] for name in _NAME_FIELDS if isinstance(found.get(name), str))
    elif isinstance(found, str):
        yield found
    else:
        yield text[:1_024]


def files_of(folder: Path, message: str) -> list[Path]:
    """The files of an attachment in order. Raises AttachmentLost. A message's id is a uuid, so no path leads out."""
    for name in (message, message.upper()):
        whole = folder / f"{name}.json"
        if whole.is_file():
            return [whole]
        parts: list[Path] = []
        for number in count(1):
            part = folder / f"{name}{number}.json"
            if not part.is_file() or number > MAX_PARTS_OF_ATTACHMENT:
                break
            parts.append(part)
        if parts:
            return parts
    raise AttachmentLost(f"{message}.json is not there")


def attachment_bytes(files: list[Path]) -> Iterator[bytes]:
    """The bytes of an attachment. Raises AttachmentLost: at the end, if a part is missing."""
    left = b""
    for number, file in enumerate(files):
        with _mapped(file) as text:
            begin, end = _span(text, file.name)
            if _parts_told(text, begin, end) not in (None, len(files)):
                raise AttachmentLost(f"{file.name} is one of other parts than the {len(files)} that are there")
            if number == 0 and (prefix := _DATA_URL.match(text, begin, end)):
                begin = prefix.end()
            for piece in _pieces(text, begin, end):
                whole = left + piece
                usable = len(whole) - len(whole) % 4
                left = whole[usable:]
                yield _decoded(whole[:usable], file.name)
    if left:
        yield _decoded(left + b"=" * (-len(left) % 4), files[-1].name)


@contextmanager
def _mapped(file: Path) -> Iterator[mmap.mmap]:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if not 0 < os.fstat(descriptor).st_size <= MAX_PART_FILE_BYTES:
                raise AttachmentLost(f"{file.name} has no bytes, or more than {MAX_PART_FILE_BYTES}")
            mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise AttachmentLost(f"{file.name} cannot be read: {error.strerror}") from None
    with mapped:
        yield mapped


def _span(text: mmap.mmap, name: str) -> tuple[int, int]:
    """The place of the bytes. Inside of another text a quote has a backslash, so its begin is found nowhere else."""
    begin = text.find(_BEGIN)
    end = text.find(b'"', begin + len(_BEGIN))
    if begin < 0 or end < 0:
        raise AttachmentLost(f"{name} is no attachment of push0k, or was cut off")
    return begin + len(_BEGIN), end


def _parts_told(text: mmap.mmap, begin: int, end: int) -> int | None:
    found = _PARTS_COUNT.search(text, 0, begin) or _PARTS_COUNT.search(text, end)
    return int(found[1]) if found else None


def _pieces(text: mmap.mmap, begin: int, end: int) -> Iterator[bytes]:
    """The base64 without ends of lines, in pieces of which none ends within an escape."""
    while begin < end:
        until = min(begin + _PIECE_CHARACTERS, end)
        if until < end and text[until - 1] == ord("\\"):
            until += 1
        yield _BLANKS.sub(b"", text[begin:until])
        begin = until


def _decoded(data: bytes, name: str) -> bytes:
    try:
        return b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise AttachmentLost(f"{name} holds no base64") from None
