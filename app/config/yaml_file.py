"""Reads one YAML file as plain values, strictly: keys are text, no key stands twice, errors name file and line.

Knows none of the keys.
"""

from pathlib import Path
from typing import Any

import yaml

from app.errors import ConfigError

#: Keys are read as they are written even where YAML sees a number: a key 0123 is no octal 83.
_TEXT_KEYS = frozenset({"apiKey"})
_NUMBER_TAGS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})


class _Loader(yaml.SafeLoader):
    """The loader of one document, for which it lives."""

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        # YAML reads the JSON escapes of a character beyond the first plane as two halves.
        node = super().compose_scalar_node(anchor)
        try:
            node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            problem = "half of a surrogate pair (as \\ud800) is no character"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here and not in construct_mapping: there, merge keys (`<<`) have been expanded and may repeat a key.
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


class _PlainLoader(_Loader):
    """The loader of a text from outside, for which it lives: what an alias repeats could grow without bound."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="an alias is not expected here", problem_mark=mark)
        return super().compose_node(parent, index)


def read_yaml_text(text: str | bytes, place: str) -> dict[str, Any]:
    """The mapping in a text without aliases; JSON is YAML, too. Raises ConfigError, which names the place."""
    value = _parse(place, text, _PlainLoader)
    if not isinstance(value, dict):
        raise ConfigError(f"{place}: expected a mapping of names to settings")
    return value


def write_yaml(value: object) -> str:
    """A value as YAML."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


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
    value = _parse(path, content, _Loader)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping of names to settings")
    return value


def _parse(path: Path | str, content: str | bytes, loader: type[_Loader]) -> object:
    try:
        return yaml.load(content, Loader=loader)  # a SafeLoader: builds plain values only
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(f"{path}: not valid YAML: {error.reason} at position {error.position}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
