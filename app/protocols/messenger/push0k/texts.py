"""Texts of push0k, which keeps the HTML that its server has made of them, as text with the marks of `simple`. Pure.

push0k's server escapes a text and makes tags of the writer's marks: `b`, `i`, `u`, `br`, a `blockquote` with a link to
the quoted message, and spans around the words of code. Anything else that looks like a tag is text.
"""

import re
from html import unescape

from msgspec import Struct

_TAG = re.compile(r"<(/?)(b|i|u|br|blockquote|a|span)((?:\s[^<>]*)?)>")
_MARKS = {"b": "**", "i": "*", "u": "__"}
_CODE = re.compile(r"\sclass=[\"']?(?:text|comments|directive|operator|variable)\b")
_QUOTED = re.compile(r"\shref=[\"']#([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})")
_LINK = re.compile(r"<a href=\"([^\"]*)\">.*</a>\s*", re.DOTALL)
#: The reference to a quoted message, until its id here is known.
_REFERENCE = re.compile(r"^((?:> )+)\[#([0-9a-f-]{36})\] ?", re.MULTILINE)
_WORD = re.compile(r"\w")
#: Tabs are two of these spaces, and quotes stand between such marks.
_TAB = "\u2003\u2003"
_OPENED, _CLOSED = "\u275b\u275b\u00a0", "\u00a0\u275c\u275c"


class PlainText(Struct, frozen=True):
    """A text with marks. Lives until its message is written."""

    text: str
    #: The messages that it quotes, in its order.
    quoted: tuple[str, ...] = ()

    def with_ids(self, ids: dict[str, int]) -> str:
        """The text with the ids here of quoted messages; a reference to one that is not here is left out."""

        def shown(found: re.Match[str]) -> str:
            id = ids.get(found[2])
            return found[1] if id is None else f"{found[1]}[#{id}] "

        return _REFERENCE.sub(shown, self.text) if self.quoted else self.text


def plain_text(html: str) -> PlainText:
    """The text of a message that push0k has formatted."""
    reader, at = _HtmlReader(), 0
    for tag in _TAG.finditer(html):
        reader.take_text(html[at : tag.start()])
        reader.take_tag(tag[2], tag[3], is_end=bool(tag[1]), whole=tag[0])
        at = tag.end()
    reader.take_text(html[at:])
    return PlainText(reader.end(), tuple(reader.quoted))


def link_text(html: str) -> str:
    """The URL of a message that is a link."""
    found = _LINK.fullmatch(html)
    return unescape(found[1]) if found else plain_text(html).text


def fault_text(html: str) -> str:
    """The text of an error of the server: only its ends of lines are tags."""
    return re.sub(r" ?<br> ?", "\n", html)


class _HtmlReader:
    """One text while it is read. A piece is text, or a word of code."""

    def __init__(self) -> None:
        self.quoted: list[str] = []
        #: Of the text, and of each quote that is open.
        self._levels: list[list[tuple[bool, str]]] = [[]]
        self._code_depth = 0

    def take_text(self, raw: str) -> None:
        if raw:
            text = unescape(raw).replace(_TAB, "\t").replace("\r", "")
            self._add(text, is_code=self._code_depth > 0)

    def take_tag(self, name: str, attributes: str, *, is_end: bool, whole: str) -> None:
        if name == "span":
            self._take_span(attributes, is_end)
        elif self._code_depth:
            self._add(whole, is_code=True)
        elif name == "br":
            self._add("\n")
        elif name in _MARKS:
            self._add(_MARKS[name])
        elif name == "blockquote":
            self._take_quote(is_end)
        elif not is_end and (found := _QUOTED.match(attributes)):
            self.quoted.append(found[1].lower())
            self._add(f"[#{found[1].lower()}] ")

    def end(self) -> str:
        while len(self._levels) > 1:
            self._take_quote(True)
        return _joined(self._levels[0]).strip("\n")

    def _add(self, text: str, *, is_code: bool = False) -> None:
        self._levels[-1].append((is_code, text))

    def _take_span(self, attributes: str, is_end: bool) -> None:
        if is_end:
            self._code_depth = max(0, self._code_depth - 1)
        elif _CODE.match(attributes) or self._code_depth:
            self._code_depth += 1

    def _take_quote(self, is_end: bool) -> None:
        if not is_end:
            self._levels.append([])
        elif len(self._levels) > 1:
            inner = _joined(self._levels.pop()).replace(_OPENED, "").replace(_CLOSED, "").strip()
            # push0k has both kinds of line ends behind the name of the quoted user.
            lines = "\n".join(f"> {line}" for line in inner.replace("\n\n", "\n", 1).split("\n"))
            self._add(f"\n{lines}\n")


def _joined(pieces: list[tuple[bool, str]]) -> str:
    """The pieces as one text. Words of code with nothing but signs between them are one stretch of code."""
    parts: list[str] = []
    code: list[str] = []
    between: list[str] = []
    for is_code, text in pieces:
        if is_code:
            code += [*between, text]
            between = []
        elif code and not _WORD.search(text) and "> " not in text:
            between.append(text)
        else:
            parts += [_fenced("".join(code)), *between, text]
            code, between = [], []
    return "".join([*parts, _fenced("".join(code)), *between])


def _fenced(code: str) -> str:
    if not code:
        return ""
    return f"\n```\n{code}\n```\n" if "\n" in code or "`" in code else f"`{code}`"
