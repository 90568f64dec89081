"""docs/security.md is true: its figures are those of the code, and it leaves out no reason and no bound."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any, NamedTuple

import pytest

from app.transport import refusals
from tests.support.configuration import defaults, site_keys
from tests.support.examples import text_of
from tests.support.processes import REPOSITORY

_PAGE = "docs/security.md"
_APP = REPOSITORY / "app"
_GROUPS = (
    "HTTP and connections",
    "TLS",
    "WebSocket and polling",
    "Before a join",
    "Names and texts",
    "Sends and queues",
    "Files of the messenger",
    "Redis",
    "Sites' backends",
    "Between nodes",
    "Tracing",
    "Operators' pages",
)
_CODE = re.compile(r"`([^`]+)`")
_FIGURE = re.compile(r"(\d[\d,]*(?:\.\d+)?)(?: (KB|ms)\b)?")
_UNITS = {"": 1, "KB": 1024, "ms": 0.001}
_CONSTANT = re.compile(r"^(_?(?:MAX|MOST|KEEP_AT_MOST)(?:_[A-Z_]+)?)(?:: \w+)? = ", re.MULTILINE)
_DEFAULTS = defaults()
#: Constants that are named as a maximum and bound nothing from outside.
_NOT_FROM_OUTSIDE = {
    "core/address.py:_MOST_EXACT": "the integers that a number holds exactly",
    "ids.py:MAX_DATACENTER": "the form of a message's id",
    "ids.py:MAX_WORKER": "the form of a message's id",
    "node/worker_slot.py:_MAX_DIRECTORY_BYTES": "the kernel's bound for the path of a socket",
    "redis/embedded.py:_MAX_SOCKET_PATH_BYTES": "the kernel's bound for the path of a socket",
    "node/worker_process.py:_MAX_DEATHS_AT_START": "when the command gives its workers up",
    "protocols/sites/form.py:_MAX_SPARSE_INDEX": "the form of a list in a form body, as qs reads it",
    "socketio/engine_server.py:_MAX_TICK_SECONDS": "how finely deadlines are kept",
    "socket_folder.py:_MOST_LOOKED_AT": "folders of killed servers that one start removes",
    "socketio/socket_server.py:_MAX_TICK_SECONDS": "how finely deadlines are kept",
    "transport/asgi.py:_MAX_WAITING_MESSAGES": "for ASGI applications, of which this server has none",
    "transport/frames.py:MAX_HEAD_BYTES": "the form of a frame",
    "transport/frames.py:MAX_SHORT_PAYLOAD_BYTES": "the form of a frame",
    "transport/frames.py:_MAX_REASON_BYTES": "the form of a close frame",
    "transport/outbox.py:_MAX_COLLECTED_BYTES": "when frames of one turn are written early; outbox_limit bounds them",
    "transport/parser.py:_MAX_SURE_BYTES": "the bytes that cannot hold more than MAX_FRAMES_A_TURN",
}


class Bound(NamedTuple):
    """One row: its first cell, its default, the names in its third cell, and what happens past it."""

    name: str
    default: str
    set_by: list[str]
    past_it: str


def bounds() -> list[Bound]:
    """The rows of all groups."""
    _, _, below = text_of(_PAGE).partition("\n## Bounds\n")
    rows = [re.split(r" *\| *", line[1:-1].strip()) for line in below.splitlines() if line.startswith("| ")]
    found = [row for row in rows if row[0] not in ("bound", "---")]
    assert all(len(row) == 4 for row in found), [row for row in found if len(row) != 4]
    return [Bound(name, default, _CODE.findall(set_by), past_it) for name, default, set_by, past_it in found]


def value_of(name: str) -> Any:
    """The value of a key, or of a constant `folder/file.py:NAME` below app/; times in seconds."""
    path, colon, constant = name.partition(":")
    if not colon:
        return _DEFAULTS[name]
    if path.endswith(".lua"):
        found = re.search(rf"^local {constant} = (\d+)$", (_APP / path).read_text(), re.MULTILINE)
        assert found, name
        return int(found[1])
    value = getattr(import_module("app." + path.removesuffix(".py").replace("/", ".")), constant)
    return value / 1000 if constant.endswith("_MS") else value


def figures_in(text: str) -> list[float]:
    """The numbers in a cell; KB is 1,024 bytes, `none` is 0."""
    if text == "none":
        return [0]
    return [float(digits.replace(",", "")) * _UNITS[unit] for digits, unit in _FIGURE.findall(text)]


def flat(values: list[Any]) -> list[float]:
    """The values as numbers; no value is 0, and a table is its values."""
    found: list[float] = []
    for value in values:
        found += map(float, value.values() if isinstance(value, dict) else [value or 0])
    return found


BOUNDS = bounds()


def test_the_groups() -> None:
    """The bounds are in these groups, each with some."""
    _, _, below = text_of(_PAGE).partition("\n## Bounds\n")
    assert tuple(re.findall(r"^### (.*)$", below, re.MULTILINE)) == _GROUPS
    assert len(BOUNDS) > 10 * len(_GROUPS)


@pytest.mark.parametrize("bound", [one for one in BOUNDS if one.set_by], ids=lambda one: one.name)
def test_the_figure_is_that_of_the_code(bound: Bound) -> None:
    """A row's default is that of its key, or the value of its constant."""
    if bound.default:
        assert figures_in(bound.default) == flat([value_of(name) for name in bound.set_by])
    else:
        # Something is refused that has no figure: the key exists.
        assert set(bound.set_by) <= _DEFAULTS.keys() | site_keys()


def test_every_row_says_what_happens() -> None:
    """No row leaves out what is past its bound, and no bound stands twice."""
    assert [bound.name for bound in BOUNDS if not bound.past_it] == []
    named = [name for bound in BOUNDS if bound.default for name in bound.set_by]
    assert sorted(named) == sorted(set(named))


def test_every_reason_is_named() -> None:
    """The reasons in italics are those of `recado_refused_total`, all of them; docs/metrics.md names them too."""
    reasons = {value for name, value in vars(refusals).items() if name.isupper() and isinstance(value, str)}
    assert {reason for bound in BOUNDS for reason in re.findall(r"\*([^*]+)\*", bound.past_it)} == reasons
    row = next(line for line in text_of("docs/metrics.md").splitlines() if line.startswith("| `recado_refused_total`"))
    assert {reason for reason in reasons if f"`{reason}`" not in row} == set()


def test_every_limit_is_named() -> None:
    """Each key of `limits`, each setting with `limit` or `timeout` in its name, and each bound of a protocol."""
    named = {name for bound in BOUNDS for name in bound.set_by}
    wanted = {key for key in _DEFAULTS if re.search(r"limit|max|timeout|ping", key.lower())}
    assert wanted - named == {"resume_ticket.max_age"}


def test_no_bound_is_left_out() -> None:
    """Each constant that is named as a maximum stands in a row, or is listed here with the reason."""
    named = {name for bound in BOUNDS for name in bound.set_by}
    constants = {
        f"{path.relative_to(_APP)}:{name}"
        for path in _APP.rglob("*.py")
        for name in _CONSTANT.findall(path.read_text())
    }
    assert constants - named == set(_NOT_FROM_OUTSIDE)
