"""References in the text of a configuration file: `${NAME}` is an environment variable, `file:<path>` a file's content.

So a secret need not stand in a file that is kept with the code. `$${` stands for a plain `${`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.errors import ConfigError

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_FILE = "file:"
#: A secret is short; a larger file was meant for something else.
_MAX_FILE_BYTES = 65_536


def resolve(value: Any, environ: Mapping[str, str]) -> Any:
    """The value with its references replaced, in lists and mappings too. Raises ConfigError, without the content."""
    if isinstance(value, str):
        return _read_file(value[len(_FILE) :]) if value.startswith(_FILE) else _replace(value, environ)
    if isinstance(value, list):
        return [resolve(one, environ) for one in value]
    if isinstance(value, dict):
        return {key: resolve(one, environ) for key, one in value.items()}
    return value


def _replace(text: str, environ: Mapping[str, str]) -> str:
    def content(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        if found[1] not in environ:
            raise ConfigError(f"${{{found[1]}}}: expected an environment variable of this name")
        return environ[found[1]]

    return _REFERENCE.sub(content, text)


def _read_file(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise ConfigError(f"file:{path}: expected at most {_MAX_FILE_BYTES} bytes")
        return content.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ConfigError(f"file:{path}: expected a file that can be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"file:{path}: expected UTF-8") from None
