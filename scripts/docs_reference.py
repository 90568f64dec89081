"""The reference of the documentation: pages that mkdocs makes from the code at each build, never out of date.

`on_files` is mkdocs's hook. The page of paths and operations is made from a node, which starts a Redis of its own.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, get_args, get_origin

ROOT = Path(__file__).parent.parent
# mkdocs is not started from the checkout's own environment in every case.
sys.path.insert(0, str(ROOT))

import click  # noqa: E402
import msgspec  # noqa: E402
import structlog  # noqa: E402
import uvloop  # noqa: E402
from mkdocs.structure.files import File  # noqa: E402
from msgspec import Meta, Struct  # noqa: E402

from app import cli  # noqa: E402
from app.config import wording  # noqa: E402
from app.config.keys import Blocks  # noqa: E402
from app.config.settings import Config, HookEvent, JwtIssuer, Site  # noqa: E402
from app.node import build  # noqa: E402
from app.node.worker_slot import WorkerSlot  # noqa: E402
from app.observe.metric import Kind  # noqa: E402
from app.protocols.listed import PROTOCOLS  # noqa: E402
from app.protocols.operations import Operation  # noqa: E402
from app.protocols.receipts.openapi import openapi_page  # noqa: E402
from app.protocols.sites.send_body import RESERVED_EVENTS  # noqa: E402
from app.transport import frames, refusals  # noqa: E402

FOLDER = "reference"
#: The errors that callers see: the class -> the place of its status and of its code among the arguments, and the status
#: unless it is given.
ERRORS: dict[str, tuple[int | None, int | None, int | None]] = {
    "BadRequest": (1, None, 400),
    "RequestRefused": (2, 1, 400),
    "ReceiptRefused": (2, 1, 400),
    "ChatRefusal": (None, 0, None),
    "ConnectRefused": (None, None, None),
    "Refused": (None, None, None),
    "AuthRefused": (None, None, None),
    "NotSigned": (None, None, 401),
    "LimitReached": (2, 1, 429),
}
_LIST = "a list of: "
#: The bound of a number that has none for people.
_ANY = 2**53
_MADE = "This page is made from the code when the documentation is built.\n"
_TYPES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}


def pages() -> dict[str, str]:
    """Return the text of each page by its path below docs/."""
    operations, paths, events = uvloop.run(_ask_a_node())
    made = {
        "index": _index(),
        "settings": _settings(),
        "events": _events(events),
        "errors": _errors(),
        "metrics": _metrics(),
        "api": _api(operations, paths),
        "commands": _commands(),
    }
    return {f"{FOLDER}/{name}.md": text for name, text in made.items()}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages to those of the folder: mkdocs calls this at each build."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def _index() -> str:
    lines = [
        "# Reference",
        "",
        "These pages are made from the code when the documentation is built: they name everything, and explain little.",
        "The pages of *Use* and *Run* explain.",
        "",
        "- [Settings](settings.md): every key of both files, with what it takes and its default",
        "- [Events](events.md): of Socket.IO, of webhooks, of the messenger",
        "- [Errors](errors.md): every text, with its status and code",
        "- [Metrics](metrics.md): every series of `/metrics`",
        "- [Paths and operations](api.md): every path, and the API of operators",
        "- [Commands](commands.md): every command with its options",
    ]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


# Settings


def _settings() -> str:
    blocks = Blocks(PROTOCOLS)
    defaults: dict[str, Any] = {section.key: section.settings() for section in blocks.sections}
    defaults["jwt"] = JwtIssuer(issuer="")
    variables = {name: f"{section.key}.{key}" for section in blocks.sections for name, key in section.variables}
    parts = [f"# Settings\n\n{_MADE}"]
    parts.append("[Configuration](../configuration.md) tells what each means. Times are in seconds.\n")
    parts.append("## config.yml\n")
    parts.append(_table(("key", "takes", "default"), _keys(blocks.environment, Config())))
    parts.append("## sites.yml\n")
    parts.append(_table(("key", "takes", "default"), _keys(blocks.site, Site(name="", api_key=""), defaults=defaults)))
    if variables:
        parts.append("Variables of sections, for the site that `SITE_NAME` names: ")
        parts.append(", ".join(f"`{name}` for `{key}`" for name, key in sorted(variables.items())) + ".\n")
    return "\n".join(parts)


def _keys(
    section: type[Struct], held: Any, prefix: str = "", defaults: dict[str, Any] | None = None
) -> Iterator[tuple[str, str, str]]:
    for field in msgspec.structs.fields(section):
        key = prefix + field.encode_name
        inner = _inner(field.type)
        if inner is None:
            yield _code(key), _words(field.type), _default(getattr(held, field.name, None))
            continue
        below = (defaults or {}).get(field.encode_name, getattr(held, field.name, held))
        yield from _keys(inner, below, f"{key}.")


def _inner(kind: Any) -> type[Struct] | None:
    kinds = [*get_args(kind), *(inner for one in get_args(kind) for inner in get_args(one))]
    return next((one for one in kinds if isinstance(one, type) and issubclass(one, Struct)), None)


def _default(value: Any) -> str:
    if value is None or value in ((), {}, ""):
        return "none"
    if isinstance(value, Struct):
        return ""
    return _code(msgspec.json.encode(value, enc_hook=str).decode())


def _words(kind: Any, metas: Sequence[Meta] = ()) -> str:
    """Return a type in words, with its bounds."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _words(inner[0], [one for one in inner[1:] if isinstance(one, Meta)])
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin in (list, tuple):
        return f"{_LIST}{_words(inner[0])}"
    if origin is dict:
        return f"a mapping of {_words(inner[0])} to {_words(inner[1])}"
    if inner:
        words = [_words(one) for one in inner if one is not type(None)]
        # One of a kind, or a list of that kind.
        listed = {one.removeprefix(_LIST) for one in words if one.startswith(_LIST)}
        alone = [one for one in words if not (one.startswith(_LIST) and one.removeprefix(_LIST) in words)]
        return " or ".join(f"{one}, or a list of such" if one in listed else one for one in alone)
    patterns = [meta.pattern for meta in metas if meta.pattern]
    if patterns:
        return wording._MEANINGS[repr(patterns[0])]
    if kind is str and [meta.min_length for meta in metas] == [1]:
        return "text, not empty"
    bounds = [f"{word} {value}" for meta in metas for word, value in _bounds(meta) if value not in (None, _ANY)]
    return " ".join([_TYPES.get(kind, "a value"), *bounds])


def _bounds(meta: Meta) -> list[tuple[str, Any]]:
    longest = [("of at least", meta.min_length), ("of at most", meta.max_length)]
    return [("over", meta.gt), ("from", meta.ge), ("up to", meta.le), ("below", meta.lt), *longest]


# Events


def _events(of_messenger: dict[str, Any]) -> str:
    parts = [f"# Events\n\n{_MADE}\n## Of the server to clients of a site\n"]
    parts.append("`/send` refuses these names, and those of Socket.IO's own events.\n")
    own = [event for event in sorted(RESERVED_EVENTS) if event.startswith("_")]
    parts.append(_table(("event", "explained in"), ((_code(event), _pages_about(event)) for event in own)))
    parts.append("## Of webhooks\n")
    hooks = get_args(HookEvent)
    parts.append(_table(("event", "explained in"), ((_code(event), _pages_about(event)) for event in hooks)))
    parts.append("## Of clients to the messenger\n")
    parts.append("Each is answered; *who* is the least standing. [Messenger](../messenger.md) tells what they do.\n")
    rows = ((_code(name), one.least.name.lower(), _fields(one.reads)) for name, one in sorted(of_messenger.items()))
    parts.append(_table(("event", "who", "data"), rows))
    return "\n".join(parts)


def _fields(kind: type[Struct]) -> str:
    fields = msgspec.structs.fields(kind)
    return ", ".join(_code(one.encode_name) + ("" if one.required else "?") for one in fields) or "none"


def _pages_about(name: str) -> str:
    """Return links to the pages that name an event in code."""
    texts = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
    in_code = rf"`[^`\n]*(?<![\w.]){re.escape(name)}(?![\w.])[^`\n]*`"
    found = [page for page, text in texts.items() if re.search(in_code, text)]
    # A table of a page explains it; others only name it.
    told = [page for page in found if re.search(rf"^\| {in_code}", texts[page], re.MULTILINE)]
    return ", ".join(f"[{texts[page].splitlines()[0].removeprefix('# ')}](../{page})" for page in told or found)


# Errors


def _errors() -> str:
    parts = [f"# Errors\n\n{_MADE}"]
    parts.append("In the place of what differs stands `…`. [Troubleshooting](../troubleshooting.md) tells causes.\n")
    for folder, title in _doors():
        # The modules beside the folders of protocols are those of all.
        modules = (ROOT / "app" / folder).glob("*.py" if folder == "protocols" else "**/*.py")
        rows = sorted({row for path in sorted(modules) for row in _refusals_in(path)})
        if rows:
            parts.append(f"## {title}\n")
            parts.append(_table(("status", "code", "text"), rows))
    parts.append("## Reasons of `recado_refused_total`\n")
    reasons = sorted(value for name, value in vars(refusals).items() if name.isupper() and isinstance(value, str))
    parts.append("".join(f"- {reason}\n" for reason in reasons))
    parts.append("## Close codes of WebSockets\n")
    codes = sorted((value, name) for name, value in vars(frames).items() if name.startswith("CLOSE_"))
    named = ((str(value), name.removeprefix("CLOSE_").replace("_", " ").lower()) for value, name in codes)
    parts.append(_table(("code", "meaning"), named))
    return "\n".join(parts)


def _doors() -> list[tuple[str, str]]:
    """Return the folders of app/ whose errors callers see, and their titles."""
    protocols = [(f"protocols/{spec.name}", spec.name.replace("_", " ").capitalize()) for spec in PROTOCOLS]
    found = [(folder, title) for folder, title in protocols if (ROOT / "app" / folder).is_dir()]
    others = [
        ("backends", "Answers of a site's backend"),
        ("core", "Limits"),
        ("console", "Operators' pages and API"),
        ("catalog", "Sites that operators change"),
    ]
    return [("protocols", "Every door"), *found, *others]


def _refusals_in(path: Path) -> Iterator[tuple[str, str, str]]:
    tree = ast.parse(path.read_text())
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    module = importlib.import_module(name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
            row = _refusal(node, node.func.id, module)
            if row is not None:
                yield row


def _refusal(call: ast.Call, kind: str, module: ModuleType) -> tuple[str, str, str] | None:
    at_status, at_code, status = ERRORS[kind]
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    at_text = 1 if kind == "ChatRefusal" else 0
    text = _text(_argument(call, given, at_text, "message"), module)
    if text.strip("… :.") == "":
        return None
    shown = _text(_argument(call, given, at_status, "status"), module) or (str(status) if status else "")
    code = _text(_argument(call, given, at_code, "limit" if kind == "LimitReached" else "code"), module)
    return shown, _code(code), text


def _argument(call: ast.Call, given: dict[str | None, ast.expr], place: int | None, name: str) -> ast.expr | None:
    if name in given:
        return given[name]
    return call.args[place] if place is not None and len(call.args) > place else None


def _text(node: ast.expr | None, module: ModuleType) -> str:
    """Return a value of the source as a reader sees it, `…` for what is known at its time alone."""
    if node is None:
        return ""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, module) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, module)
    if isinstance(node, ast.Name) and isinstance(known := getattr(module, node.id, None), str | int | float):
        return str(known)
    return "…"


# Metrics


def _metrics() -> str:
    rows = []
    for metric in build._metrics_of(PROTOCOLS):
        name = metric.name + ("_total" if metric.kind is Kind.COUNTER else "")
        labels = ", ".join(map(_code, metric.labels))
        rows.append((_code(name), metric.kind.value, labels, metric.help))
    text = "[Metrics](../metrics.md) tells what each means, and which deserves an alert.\n"
    return f"# Metrics\n\n{_MADE}\n{text}\n" + _table(("series", "kind", "labels", "meaning"), sorted(rows))


# Paths and operations


async def _ask_a_node() -> tuple[list[Operation], list[tuple[str, str]], dict[str, Any]]:
    """Return the operations, the paths and the events of the messenger, as a node has them."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory(prefix="recado-", ignore_cleanup_errors=True) as folder:
        async with AsyncExitStack() as stack:
            config = Config(data_dir=Path(folder))
            services = await build.Services.start(config, stack, WorkerSlot(f"{folder}/none"), PROTOCOLS)
            messenger: Any = services.protocols["messenger"]
            events = messenger._application._events._handlers
            return list(services._offered.operations), sorted(_paths_of(services)), dict(events)


def _paths_of(services: build.Services) -> Iterator[tuple[str, str]]:
    for name, protocol in services.protocols.items():
        for path in protocol.endpoints:
            yield path, name
        for first in (name, *protocol.more_paths) if protocol.application is not None else ():
            yield f"/{first}/…", name
        for segment in protocol.site_paths:
            yield f"/<site>/{segment}/…", name
        for route in protocol.routes:
            yield str(getattr(route, "path", "")).replace("{rest:path}", "…"), name
    own = set(services.dispatcher._endpoints) | set(services.dispatcher._page_paths)
    known = {path for protocol in services.protocols.values() for path in protocol.endpoints}
    known |= {str(getattr(route, "path", "")) for one in services.protocols.values() for route in one.routes}
    yield from ((path, "the node") for path in own - known if path)
    yield "/socket.io/", "the node"


def _api(operations: Sequence[Operation], paths: Sequence[tuple[str, str]]) -> str:
    parts = [f"# Paths and operations\n\n{_MADE}\n## Paths\n"]
    parts.append(_table(("path", "answered by"), ((_code(path), name) for path, name in paths)))
    parts.append("## For backends\n")
    parts.append("`GET /openapi.json` has these as OpenAPI 3.1, see [Delivery](../delivery.md).\n")
    described = msgspec.json.decode(openapi_page())["paths"]
    rows = [
        (method.upper(), _code(path), one["summary"], ", ".join(_code(name) for name in _names(one)))
        for path, methods in sorted(described.items())
        for method, one in methods.items()
        if isinstance(one, dict)
    ]
    parts.append(_table(("method", "path", "does", "parameters"), rows))
    parts.append("## For operators\n")
    parts.append("The console and `/api/v1` have the same operations, see [Console](../console.md).\n")
    own = sorted(operations, key=lambda one: (one.path, one.method))
    rows = [(one.method, _code("/api/v1" + one.path), one.summary, one.role.name.lower(), _inputs(one)) for one in own]
    parts.append(_table(("method", "path", "does", "least role", "inputs"), rows))
    return "\n".join(parts)


def _names(described: dict[str, Any]) -> list[str]:
    found = []
    for one in described.get("parameters", ()):
        found.append(one["name"] if "name" in one else one["$ref"].rpartition("/")[2])
    return found


def _inputs(operation: Operation) -> str:
    fields = msgspec.structs.fields(operation.parameters)
    return ", ".join(_code(one.encode_name) + ("" if one.required else "?") for one in fields)


# Commands


def _commands() -> str:
    parts = [f"# Commands\n\n{_MADE}"]
    parts += [f"## {name}\n\n{text}" for name, text in _helps(cli.recado, "recado")]
    return "\n".join(parts)


def _helps(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    settings = {**command.context_settings, "terminal_width": 100}
    context = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent, **settings)
    if command.hidden:
        return
    yield name, f"```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            inner = command.get_command(context, below)
            if inner is not None:
                yield from _helps(inner, f"{name} {below}", context)
