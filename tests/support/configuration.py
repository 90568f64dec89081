"""The configuration as its documentation has to describe it: every key, every environment variable, and the loader.

No other module of the documentation's tests imports `app`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from msgspec import Struct
from msgspec.structs import fields

import app
from app.config.keys import Blocks
from app.config.load import load_config as load_for
from app.config.settings import Config, Site
from app.protocols.listed import PROTOCOLS

_BLOCKS = Blocks(PROTOCOLS)

_SHORTEST_NAME = 4


def load_config(config_path: str | Path | None, sites_path: str | Path | None, environ: Mapping[str, str]) -> Config:
    """The settings as the server reads them, for all its protocols."""
    return load_for(config_path, sites_path, environ, PROTOCOLS)


def server_keys() -> set[str]:
    """The dotted keys of an environment's block in config.yml."""
    return set(_keys_of(_BLOCKS.environment))


def site_keys() -> set[str]:
    """The dotted keys of a site's block in sites.yml."""
    return set(_keys_of(_BLOCKS.site))


def defaults() -> dict[str, Any]:
    """The default of each dotted key that has one, times in seconds. A site's own come last: they are the same."""
    found = dict(_defaults_of(_BLOCKS.environment, Config()))
    found |= _defaults_of(_BLOCKS.site, Site(name="", api_key=""))
    for section in _BLOCKS.sections:
        found |= {f"{section.key}.{key}": value for key, value in _defaults_of(section.keys, section.settings())}
    return found


def environment_variables() -> set[str]:
    """The environment variables that the configuration reads: the upper-case texts in its modules, and those that set
    keys of sections."""
    of_sections = {name for section in _BLOCKS.sections for name, _ in section.variables}
    return of_sections | {text for path in _modules() for text in _texts(path) if _is_name(text)}


def _modules() -> Iterator[Path]:
    folder = Path(app.__file__).parent
    yield from folder.glob("config/*.py")


def _texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _is_name(text: str) -> bool:
    return len(text) >= _SHORTEST_NAME and text.replace("_", "").isalpha() and text.isupper()


def _keys_of(section: type[Struct]) -> Iterator[str]:
    for field in fields(section):
        inner = _inner(field.type)
        if inner:
            yield from (f"{field.encode_name}.{key}" for key in _keys_of(inner))
        else:
            yield field.encode_name


def _defaults_of(section: type[Struct], settings: Struct) -> Iterator[tuple[str, Any]]:
    for field in fields(section):
        inner = _inner(field.type)
        if inner:
            # Some sections of the file are flat in the settings.
            held = getattr(settings, field.name, settings)
            yield from ((f"{field.encode_name}.{key}", value) for key, value in _defaults_of(inner, held))
        elif hasattr(settings, field.name):
            value = getattr(settings, field.name)
            yield field.encode_name, value / 1000 if field.name.endswith("_ms") else value


def _inner(kind: Any) -> type[Struct] | None:
    """The section that a key of this type holds."""
    return next((one for one in get_args(kind) if isinstance(one, type) and issubclass(one, Struct)), None)
