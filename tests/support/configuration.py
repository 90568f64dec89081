"""The configuration as its documentation must tell it: every key, every environment variable, and the loader.

The only module of the documentation's tests that imports `app`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from msgspec import Struct
from msgspec.structs import fields

import app
from app.config import load_config
from app.config_keys import EnvironmentBlock, SiteBlock

__all__ = ["environment_variables", "load_config", "server_keys", "site_keys"]

_SHORTEST_NAME = 4


def server_keys() -> set[str]:
    """The dotted keys of a block of config.yml."""
    return set(_keys_of(EnvironmentBlock))


def site_keys() -> set[str]:
    """The dotted keys of a block of sites.yml."""
    return set(_keys_of(SiteBlock))


def environment_variables() -> set[str]:
    """The environment variables that the configuration reads: the upper-case texts in its modules."""
    return {text for path in _modules() for text in _texts(path) if _is_name(text)}


def _modules() -> Iterator[Path]:
    folder = Path(app.__file__).parent
    yield from folder.glob("config*.py")
    yield from folder.glob("config/*.py")


def _texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _is_name(text: str) -> bool:
    return len(text) >= _SHORTEST_NAME and text.replace("_", "").isalpha() and text.isupper()


def _keys_of(section: type[Struct]) -> Iterator[str]:
    for field in fields(section):
        inner = [kind for kind in get_args(field.type) if isinstance(kind, type) and issubclass(kind, Struct)]
        if inner:
            yield from (f"{field.encode_name}.{key}" for key in _keys_of(inner[0]))
        else:
            yield field.encode_name
