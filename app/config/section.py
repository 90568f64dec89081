"""A section of a configuration file: its keys, their types and bounds, and the sentence for a value that breaks them.

Knows nothing of files, of the environment, or of the defaults: a key that is absent, or null, is None here.
"""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from app.config.mistakes import Mistakes
from app.config.references import resolve
from app.config.wording import in_words, matching
from app.errors import ConfigError

#: The `environ` of a block whose text stands for itself: no reference in it is resolved.
AS_WRITTEN: Mapping[str, str] = MappingProxyType({})

Text = Annotated[str, Meta(min_length=1)]
HttpUrl = Annotated[
    str,
    matching(
        r"^https?://([^\s/?#@:\[\]]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?([/?#]\S*)?\Z",
        "a URL that begins with http:// or https://, without user name",
    ),
]
HeaderText = Annotated[str, matching(r"^[!-~]([ -~]*[!-~])?\Z", "text of printable ASCII characters")]
#: The parts are read by redis/address.py; the pattern finds a wrong database before the start.
RedisUrl = Annotated[
    str,
    matching(
        r"^(unix://\S+|rediss?://[^\s/?]*(/\d*)?(\?\S*)?|rediss?\+cluster://[^\s/?]+(/0?)?(\?\S*)?"
        r"|rediss?\+sentinel://[^\s/?]+/[^\s/?]+(/\d*)?(\?\S*)?)\Z",
        "a URL such as redis://host:6379/0, rediss://host, unix:///path, redis+sentinel://host,host/name "
        "or redis+cluster://host,host",
    ),
]
TtlSeconds = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
#: A number that a Lua script can still represent exactly.
Amount = Annotated[int, Meta(ge=1, le=2**53)]


class Section(Struct, kw_only=True, forbid_unknown_fields=True):
    """A mapping in a file. Lives while the settings are read.

    A field has the name of the setting that it fills, and the file's key where that differs.
    """

    def given(self) -> dict[str, Any]:
        """The values in the file, by the setting's name."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}


class HistorySection(Section):
    """The bounds of the published messages that a protocol keeps."""

    messages: Amount | None = None
    bytes: Amount | None = None
    seconds: TtlSeconds | None = None


class SectionSpec(Struct, frozen=True):
    """A protocol's section of a site's block. Lives as long as the process."""

    #: The key in the file, such as `redisPublish`.
    key: str
    keys: type[Section]
    #: The values that the keys fill, with their defaults.
    settings: type[Struct]
    #: Whether a site with this section needs no authUrl.
    is_sufficient: bool = True
    #: Whether `binds` may name its channels or topics.
    is_bindable: bool = False
    #: The settings whose values no output shows.
    secrets: frozenset[str] = frozenset()
    #: Settings of a site with this section, by name, where its block does not give them.
    implied: tuple[tuple[str, Any], ...] = ()
    #: Environment variables that set keys of the section for the site that SITE_NAME names: the variable -> the key.
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def secret_keys(self) -> set[str]:
        """The keys of the file whose values no output shows."""
        return {field.encode_name for field in msgspec.structs.fields(self.keys) if field.name in self.secrets}

    def describe(self, settings: Struct) -> str:
        """The section as check-config shows it: `key=value ...`, a secret as `***`."""
        shown = {field.encode_name: getattr(settings, field.name) for field in msgspec.structs.fields(self.keys)}
        hidden = self.secret_keys
        return " ".join(
            f"{key}={'***' if key in hidden and value is not None else _as_written(value)}"
            for key, value in shown.items()
        )


_Block = TypeVar("_Block", bound=Section)


def decode_block(
    raw: object, block_type: type[_Block], place: Callable[[str], str], environ: Mapping[str, str] | None = None
) -> _Block:
    """The block's typed form. Without `environ` numbers are read from text, as environment variables need it; with it
    references to the environment and to files are resolved, unless it is AS_WRITTEN.

    `place` returns the name of a dotted key's place, for the error line. Raises ConfigError with every mistake.
    """
    mistakes = Mistakes()
    block = _Reader(place, environ, mistakes).read({} if raw is None else raw, block_type, "")
    mistakes.raise_any()
    return block


@cache
def _fields_of(section: type[Section]) -> dict[str, msgspec.structs.FieldInfo]:
    """The fields of a section by the keys of the file: thousands of sites have the same."""
    return {field.encode_name: field for field in msgspec.structs.fields(section)}


class _Reader:
    """Reads one block key by key, so that a mistake in one hides no other. Lives while it reads."""

    def __init__(self, place: Callable[[str], str], environ: Mapping[str, str] | None, mistakes: Mistakes) -> None:
        self._place = place
        self._environ = environ
        self._mistakes = mistakes

    def read(self, raw: object, section: type[_Block], path: str) -> _Block:
        """The section without the keys that hold a mistake."""
        if not isinstance(raw, dict):
            self._convert(raw, section, path)
            return section()
        fields = _fields_of(section)
        given: dict[str, Any] = {}
        for key, value in raw.items():
            full_key = f"{path}.{key}" if path else str(key)
            if key not in fields:
                self._mistakes.add(f"{self._place(full_key)}: unknown key, {_hint(str(key), fields)}")
            elif value is not None:
                given[fields[key].name] = self._read_key(value, fields[key], full_key)
        return section(**given)

    def _read_key(self, value: object, field: msgspec.structs.FieldInfo, path: str) -> Any:
        kinds = get_args(field.type)
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)]
        others = [kind for kind in kinds if kind not in inner and kind is not type(None)]
        if inner and (isinstance(value, dict) or not others):
            return self.read(value, inner[0], path)
        if isinstance(value, list) and (listed := _listed_section(others)) is not None:
            return tuple(self.read(one, listed, f"{path}[{number}]") for number, one in enumerate(value))
        with self._mistakes.noted_at(self._place(path)):
            is_plain = self._environ is None or self._environ is AS_WRITTEN
            resolved = value if is_plain or self._environ is None else _resolve(value, self._environ)
            # Only a mapping is a section: any other value is to be the one that may stand in its place.
            kind = others[0] if inner else field.type
            return self._convert(resolved, kind, path, strict=self._environ is not None and resolved is value)
        return None

    def _convert(self, value: object, kind: Any, path: str, *, strict: bool = True) -> Any:
        try:
            return msgspec.convert(value, kind, strict=strict, dec_hook=_decode_path)
        except msgspec.ValidationError as error:
            message = str(error).partition(" - at `")[0]
            self._mistakes.add(f"{self._place(path)}: {in_words(message)}")
            return None


def _listed_section(kinds: Iterable[Any]) -> type[Section] | None:
    """The section of which one of the kinds is a list."""
    items = [get_args(kind)[0] for kind in kinds if get_origin(kind) is tuple]
    return next((item for item in items if isinstance(item, type) and issubclass(item, Section)), None)


def _hint(key: str, known: Iterable[str]) -> str:
    """The key that was probably meant, or all keys that may stand there."""
    by_lower_case = {name.lower(): name for name in known}
    close = get_close_matches(key.lower(), by_lower_case, n=1)
    return f"did you mean {by_lower_case[close[0]]}?" if close else f"expected one of {', '.join(known)}"


def _as_written(value: object) -> str:
    """The value as a file would hold it."""
    return msgspec.json.encode(value).decode()


def _resolve(value: object, environ: Mapping[str, str]) -> Any:
    try:
        return resolve(value, environ)
    except RecursionError:
        raise ConfigError("expected no value that is nested so deeply, or contains itself") from None


def _decode_path(_: type, value: object) -> Path:
    if not isinstance(value, str) or not value:
        raise TypeError("Expected `str` of length >= 1")  # the wording of msgspec
    return Path(value)
