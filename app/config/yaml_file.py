"""Reads one YAML file as plain values, strictly: keys are text, no key stands twice, errors name file and line.

Knows nothing of the meaning of the keys.
"""

from pathlib import Path
from typing import Any

import yaml

from app.errors import ConfigError

#: Keys whose value is read as it is written even where YAML sees a number: the apiKey 0123 is not the octal number 83.
_TEXT_KEYS = frozenset({"apiKey"})
_NUMBER_TAGS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})


class _Loader(yaml.SafeLoader):
    """A loader that refuses keys that are no text or stand twice. Lives for one document."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # The check is here and not in construct_mapping: there, merge keys (`<<`) are expanded and may repeat a key.
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        mapping: dict[Any, Any] = {}
        for key, value in node.value:
            as_written = key.value in _TEXT_KEYS and value.tag in _NUMBER_TAGS
            mapping[key.value] = value.value if as_written else self.construct_object(value, deep=deep)
        return mapping

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # YAML takes the text for a date or a number, Python does not, as in 2024-13-45
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from None


def read_yaml_file(path: Path, *, must_exist: bool) -> dict[str, Any]:
    """Returns the mapping in the file; {} when the file is empty, or is missing and may be. Raises ConfigError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        if must_exist:
            raise ConfigError(f"{path}: no such file") from None
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    value = _parse(path, content)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping of names to settings")
    return value


def _parse(path: Path, content: bytes) -> object:
    try:
        return yaml.load(content, Loader=_Loader)  # a SafeLoader: builds plain values only
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(f"{path}: not valid YAML: {error.reason} at position {error.position}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
