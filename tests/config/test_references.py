"""References in a configuration: the environment, files, and the one line for a reference that leads nowhere."""

from pathlib import Path

import pytest

from app.config.references import resolve
from app.errors import ConfigError

ENVIRON = {"KEY": "hidden", "HOST": "example.com"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${KEY}", "hidden"),
        ("https://${HOST}/x?k=${KEY}", "https://example.com/x?k=hidden"),
        ("$${KEY}", "${KEY}"),
        ("$KEY {KEY} $", "$KEY {KEY} $"),
        (["${KEY}", 5], ["hidden", 5]),
        ({"a": "${KEY}"}, {"a": "hidden"}),
        (7, 7),
    ],
)
def test_environment(value: object, expected: object) -> None:
    """`${NAME}` is replaced wherever it stands in a text; `$${` is a plain `${`; other values stay."""
    assert resolve(value, ENVIRON) == expected


def test_file(tmp_path: Path) -> None:
    """`file:` reads a file without the line end that editors put at its end."""
    (tmp_path / "key").write_text("hidden\n")
    assert resolve(f"file:{tmp_path}/key", {}) == "hidden"


def test_references_that_lead_nowhere(tmp_path: Path) -> None:
    """The error names the variable or the file, never a content."""
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    (tmp_path / "binary").write_bytes(b"\xff")
    for value, sentence in (
        ("${MISSING}", "${MISSING}: expected an environment variable of this name"),
        (f"file:{tmp_path}/none", "none: expected a file that can be read (No such file or directory)"),
        (f"file:{tmp_path}/large", "large: expected at most 65536 bytes"),
        (f"file:{tmp_path}/binary", "binary: expected UTF-8"),
    ):
        with pytest.raises(ConfigError) as caught:
            resolve(value, ENVIRON)
        assert str(caught.value).endswith(sentence)
