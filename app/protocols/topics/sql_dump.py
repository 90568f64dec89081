"""Reads the rows of one table from a dump of MariaDB or MySQL: from its CREATE TABLE and its INSERTs. Pure."""

import re
from collections.abc import Iterator

from app.errors import ConfigError

#: A value of a row: text, a number as text, or NULL.
Value = str | None
Row = dict[str, Value]

# The loops are possessive, so that no text makes them go back.
_TOKEN = re.compile(
    r"""(?P<space>\s+|--(?=\s)[^\n]*|\#[^\n]*|/\*.*?\*/)
    |(?P<string>'(?:[^'\\]++|\\.|'')*+'|"(?:[^"\\]++|\\.|"")*+")
    |(?P<name>`(?:[^`]++|``)*+`)
    |(?P<hex>0x[0-9A-Fa-f]+|[xX]'[0-9A-Fa-f]*')
    |(?P<number>[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)
    |(?P<word>\w+)
    |(?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a", "%": "\\%", "_": "\\_"}
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_OPTIONS = frozenset(("PRIMARY", "UNIQUE", "KEY", "INDEX", "CONSTRAINT", "FOREIGN", "FULLTEXT", "SPATIAL", "CHECK"))

_QUOTES = frozenset("'\"`")

_Token = tuple[str, str]
_END: _Token = ("end", "")


def rows_of(dump: str, table: str, max_rows: int) -> list[Row]:
    """The rows of the table, by column. Raises ConfigError when the dump has no such rows, or none that can be read."""
    reader = _DumpReader(dump, table, max_rows)
    reader.read()
    if not reader.found:
        raise ConfigError(f"expected INSERT statements for the table {table}")
    return reader.rows


class _DumpReader:
    """Reads one dump from its begin to its end. Lives as long as that."""

    def __init__(self, dump: str, table: str, max_rows: int) -> None:
        self.rows: list[Row] = []
        self.found = False
        self._table = table
        self._max_rows = max_rows
        self._columns: list[str] = []
        self._tokens = _tokens(dump)
        self._next = next(self._tokens)

    def read(self) -> None:
        """Read all statements."""
        while self._next != _END:
            word = self._word()
            if word == "CREATE" and self._word() == "TABLE" and self._is_table():
                self._read_columns()
            elif word in ("INSERT", "REPLACE") and self._is_insert():
                self._read_insert()
            while self._next != _END and self._take() != ("mark", ";"):
                pass

    def _is_insert(self) -> bool:
        while self._next[0] == "word" and self._next[1].upper() in ("IGNORE", "INTO"):
            self._take()
        return self._is_table()

    def _is_table(self) -> bool:
        while self._next[0] == "word" and self._next[1].upper() in ("IF", "NOT", "EXISTS"):
            self._take()
        name = self._identifier()
        if self._next == ("mark", "."):
            self._take()
            name = self._identifier()
        return name == self._table

    def _read_columns(self) -> None:
        self._expect("(")
        columns: list[str] = []
        depth, is_begin = 1, True
        while depth and self._next != _END:
            kind, text = self._next
            if is_begin and kind in ("name", "word") and text.upper() not in _OPTIONS:
                columns.append(_plain(self._next))
            self._take()
            depth += (text == "(") - (text == ")") if kind == "mark" else 0
            is_begin = depth == 1 and (kind, text) == ("mark", ",")
        self._columns = columns

    def _read_insert(self) -> None:
        columns = self._read_names() if self._next == ("mark", "(") else self._columns
        if self._word() not in ("VALUES", "VALUE"):
            raise ConfigError(f"the INSERT for {self._table}: expected VALUES")
        if not columns:
            raise ConfigError(
                f"the INSERT for {self._table}: expected the names of its columns, or CREATE TABLE before it"
            )
        self.found = True
        while True:
            values = self._read_values()
            if len(values) != len(columns):
                raise ConfigError(f"the INSERT for {self._table}: expected {len(columns)} values, got {len(values)}")
            if len(self.rows) >= self._max_rows:
                raise ConfigError(f"the table {self._table}: expected at most {self._max_rows} rows")
            self.rows.append(dict(zip(columns, values, strict=True)))
            if self._next != ("mark", ","):
                return
            self._take()

    def _read_names(self) -> list[str]:
        names = []
        self._expect("(")
        while self._next != _END:
            names.append(self._identifier())
            if self._take() != ("mark", ","):
                break
        return names

    def _read_values(self) -> list[Value]:
        values = []
        self._expect("(")
        while self._next != _END:
            values.append(self._value())
            mark = self._take()
            if mark == ("mark", ")"):
                return values
            if mark != ("mark", ","):
                break
        raise ConfigError(f"the INSERT for {self._table}: expected rows of plain values")

    def _value(self) -> Value:
        kind, text = self._take()
        if kind == "word" and text.startswith("_"):
            # The character set of the text behind it.
            kind, text = self._take()
        if kind == "string":
            return _unquoted(text)
        if kind == "number":
            return text
        if kind == "hex":
            return bytes.fromhex(text[2:].strip("'")).decode("utf-8", "replace")
        if kind == "word" and text.upper() == "NULL":
            return None
        raise ConfigError(f"the INSERT for {self._table}: expected rows of plain values")

    def _word(self) -> str:
        return self._take()[1].upper() if self._next[0] == "word" else ""

    def _identifier(self) -> str:
        token = self._take() if self._next[0] in ("name", "word", "string") else _END
        return _plain(token)

    def _expect(self, mark: str) -> None:
        if self._take() != ("mark", mark):
            raise ConfigError(f"the statement for {self._table}: expected {mark}")

    def _take(self) -> _Token:
        token = self._next
        self._next = next(self._tokens, _END)
        return token


def _tokens(dump: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(dump):
        if match[0] in _QUOTES or dump.startswith("/*", match.end() - 1 if match[0] == "/" else len(dump)):
            # Each further one would be looked for up to the end of the dump.
            raise ConfigError("expected an SQL dump: a text or a comment in it has no end")
        if match.lastgroup != "space":
            yield match.lastgroup or "", match[0]
    yield _END


def _plain(token: _Token) -> str:
    kind, text = token
    return text[1:-1].replace("``", "`") if kind == "name" else _unquoted(text) if kind == "string" else text


def _unquoted(text: str) -> str:
    quote = text[0]
    inner = text[1:-1].replace(quote * 2, quote) if "\\" not in text else _unescaped(text[1:-1], quote)
    return inner


def _unescaped(text: str, quote: str) -> str:
    # A quote may be doubled and escaped in one text: pieces between escapes hold only doubled ones.
    pieces = _ESCAPED.split(text)
    pieces[::2] = [piece.replace(quote * 2, quote) for piece in pieces[::2]]
    pieces[1::2] = [_ESCAPES.get(piece, piece) for piece in pieces[1::2]]
    return "".join(pieces)
