"""Attachments of push0k: their bytes, whole or with the file that is wrong, and their names."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from app.protocols.messenger.push0k.attachments import AttachmentLost, attachment_bytes, attachment_name, files_of
from app.protocols.messenger.push0k.source_rows import PushMessage
from tests.support.push0k import attach, uuid_of


def read(folder: Path, name: str) -> bytes:
    """The bytes of an attachment."""
    return b"".join(attachment_bytes(files_of(folder, str(uuid_of(name)))))


def message_with(**more: Any) -> PushMessage:
    """A message with an attachment."""
    row = {"id": "m", "sender": "u", "to_user": "v", "room": None, "parent": None, "at": 0, "kind": 1, "text": ""}
    return PushMessage(**{**row, "extra": "", "size": 1, "device": None, "app": None, "is_withheld": False} | more)


@pytest.mark.parametrize("size", [1, 2, 3, 1_000, 2_500_001])
def test_ways_of_parts(tmp_path: Path, chance: random.Random, size: int) -> None:
    """One file, parts that are encoded by themselves, and the base64 of the whole cut anywhere have the same bytes."""
    data = chance.randbytes(size)
    attach(tmp_path, "one", [data])
    attach(tmp_path, "parts", [data[start : start + 999_999] for start in range(0, size, 999_999)])
    attach(tmp_path, "split", [data[:50_000]], is_split=True)
    assert read(tmp_path, "one") == read(tmp_path, "parts") == data
    assert read(tmp_path, "split") == data[:50_000]


def test_forms_of_clients(tmp_path: Path) -> None:
    """A URL of a browser, ends of lines of 1C, and a file's name in capitals."""
    file = tmp_path / f"{str(uuid_of('x')).upper()}.json"
    for binary in ("data:image/png;base64,aGVsbG8=", "aGVs\\r\\nbG8=", "aGVsbG8"):
        file.write_text(f'{{"PartsCount":1,"binary":"{binary}"}}')
        assert read(tmp_path, "x") == b"hello"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is not there"),
        ("", "has no bytes"),
        ("{}", "is no attachment"),
        ('{"binary":"aGVs', "was cut off"),
        ('{"binary":"a*b="}', "holds no base64"),
        ('{"PartsCount":3,"binary":"aGVs"}', "of other parts"),
    ],
)
def test_what_is_lost(tmp_path: Path, content: str | None, reason: str) -> None:
    """An attachment that is missing or damaged is told with the name of its file."""
    if content is not None:
        (tmp_path / f"{uuid_of('x')}.json").write_text(content)
    with pytest.raises(AttachmentLost, match=rf"{uuid_of('x')}.*{reason}"):
        read(tmp_path, "x")


def test_links_lead_nowhere(tmp_path: Path) -> None:
    """A link in the folder is not followed."""
    (tmp_path / "secret").write_text('{"binary":"aGVs"}')
    (tmp_path / f"{uuid_of('x')}.json").symlink_to(tmp_path / "secret")
    with pytest.raises(AttachmentLost):
        read(tmp_path, "x")


def test_memory(tmp_path: Path) -> None:
    """The bytes come piece by piece."""
    attach(tmp_path, "large", [bytes(20_000_000)])
    files = files_of(tmp_path, str(uuid_of("large")))
    tracemalloc.start()
    assert sum(map(len, attachment_bytes(files))) == 20_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize(
    ("extra", "text", "name"),
    [
        ("report.pdf", "see this", "report.pdf"),
        ("", "C:\\docs\\plan.xlsx", "plan.xlsx"),
        ('{"name": "pic\\ud83d.png", "w": 3}', "", "pic.png"),
        ("no ending", "a.txt", "a.txt"),
        ("no ending", "", "no ending"),
        ('{"a":1}', "", "m"),
        ("../../etc/passwd", "", "passwd"),
    ],
)
def test_names(extra: str, text: str, name: str) -> None:
    """The name is the first text that looks like one."""
    assert attachment_name(message_with(extra=extra, text=text)) == name
