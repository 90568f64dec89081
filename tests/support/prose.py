"""Reads the comments and docstrings of source files as sentences, for the rules on prose."""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

_PARAGRAPH = re.compile(r"\n[ \t]*\n")
_SENTENCE = re.compile(r"(?<=[.!?])[\"')`]*\s+")

#: A line of the file and the text that begins there.
Block = tuple[int, str]


def sentences_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every sentence of the file's comments and docstrings, with the line on which its comment begins."""
    for line, text in _blocks_of(path):
        for paragraph in _PARAGRAPH.split(text):
            for sentence in _SENTENCE.split(" ".join(paragraph.split())):
                yield line, sentence


def _blocks_of(path: Path) -> Iterator[Block]:
    text = path.read_text()
    if path.suffix == ".py":
        yield from _joined(_python_comments(text))
        yield from _docstrings(ast.parse(text))
    else:
        yield from _joined(_line_comments(text, "--" if path.suffix == ".lua" else "#"))


def _joined(comments: Iterable[tuple[int, bool, str]]) -> Iterator[Block]:
    """Comments on lines of their own, one below the other, are one text."""
    begin, end, parts = 0, 0, list[str]()
    for line, is_own, text in comments:
        if not (is_own and line == end + 1):
            if parts:
                yield begin, "\n".join(parts)
            begin, parts = line, []
        parts.append(text)
        # A comment behind code takes no line after it.
        end = line if is_own else 0
    if parts:
        yield begin, "\n".join(parts)


def _python_comments(text: str) -> Iterator[tuple[int, bool, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], not token.line[: token.start[1]].strip(), token.string.lstrip("#: ")


def _line_comments(text: str, mark: str) -> Iterator[tuple[int, bool, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        before, found, comment = line.partition(f"{mark} ")
        if found:
            yield number, not before.strip(), comment


def _docstrings(tree: ast.Module) -> Iterator[Block]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield node.body[0].lineno, docstring
