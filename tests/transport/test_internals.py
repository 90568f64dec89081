"""The list of the libraries' internals is that of the installed releases, and names all that Recado uses of them."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import tomllib
from importlib import import_module
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
from picows import picows
from uvicorn.config import Config
from uvicorn.lifespan.off import LifespanOff
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import Server, ServerState

from app.node.http_server import HttpServer
from app.transport import internals
from app.transport.http import HttpProtocol
from app.transport.http_head import HeadProtocol
from app.transport.http_unread import ReadProtocol
from app.transport.http_upgrade import UpgradeProtocol
from app.transport.websocket import WebSocketProtocol
from tests.transport.serving import echo

ROOT = Path(__file__).parents[2]
DERIVED: list[tuple[type, type]] = [
    (HttpProtocol, HttpToolsProtocol),
    (UpgradeProtocol, HttpToolsProtocol),
    (HeadProtocol, HttpToolsProtocol),
    (ReadProtocol, HttpToolsProtocol),
    (HttpServer, Server),
]


def parameters_of(function: Any) -> str:
    """The parameters of a function, without types."""
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def found(name: str) -> Any:
    """The object of a `module:name`."""
    module, _, path = name.partition(":")
    value: Any = import_module(module)
    for part in path.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("library", ["uvicorn", "picows"])
def test_libraries_are_bounded(library: str) -> None:
    """A release that nobody has looked at is not installed: pyproject.toml names the first one that is not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = [one for one in project["dependencies"] if one.startswith(library)]
    installed = version(library)
    bound = re.search(r"<(\d+)\.(\d+)$", wanted)
    assert bound, wanted
    assert tuple(map(int, installed.split(".")[:2])) < tuple(map(int, bound.groups()))


@pytest.mark.parametrize(("name", "parameters"), internals.UVICORN_CALLABLES.items())
def test_uvicorns_callables(name: str, parameters: str) -> None:
    """Each function that Recado overrides or calls is there, with the recorded parameters."""
    assert parameters_of(found(name)) == parameters


def uvicorns_objects() -> dict[str, object]:
    """One object of each class whose attributes Recado reads."""
    config = Config(cast(Any, echo), lifespan="off", http=HttpProtocol, ws=WebSocketProtocol)
    config.load()
    state = ServerState()
    flow = FlowControl(cast(Any, None))
    make_cycle: Any = RequestResponseCycle
    cycle = make_cycle(*[None] * 7, asyncio.Event(), False, True, lambda: None)
    protocol = HttpToolsProtocol(config, state, {})
    objects = (config, state, flow, cycle, protocol, Server(config), LifespanOff(config))
    return {type(one).__name__: one for one in objects}


async def test_uvicorns_attributes() -> None:
    """Each attribute that Recado reads or sets is there."""
    objects = uvicorns_objects()
    assert objects.keys() == internals.UVICORN_ATTRIBUTES.keys()
    missing = [
        f"{kind}.{name}"
        for kind, names in internals.UVICORN_ATTRIBUTES.items()
        for name in names
        if not hasattr(objects[kind], name)
    ]
    assert missing == []


def test_own_websocket_class_is_made_as_uvicorns() -> None:
    """uvicorn gives our WebSocket class the same arguments as its own."""
    name = "uvicorn.protocols.websockets.websockets_sansio_impl:WebSocketsSansIOProtocol.__init__"
    assert parameters_of(WebSocketProtocol.__init__) == internals.UVICORN_CALLABLES[name]


async def test_derived_classes_use_nothing_else() -> None:
    """A method that one of our classes overrides, and an attribute of `self` that uvicorn has made, is in the list."""
    objects = uvicorns_objects()
    unlisted = []
    for ours, theirs in DERIVED:
        listed = set(internals.UVICORN_ATTRIBUTES[theirs.__name__]) | {
            name.rpartition(".")[2] for name in internals.UVICORN_CALLABLES if f":{theirs.__name__}." in name
        }
        own = {name for name in vars(ours) if not name.startswith("__")}
        overridden = {name for name in own if hasattr(theirs, name)}
        inherited = {name for name in attributes_of_self(ours) - own if hasattr(objects[theirs.__name__], name)}
        unlisted += [f"{ours.__name__}.{name}" for name in (overridden | inherited) - listed]
    assert unlisted == []


async def test_own_protocol_has_uvicorns_attributes() -> None:
    """Our HTTP class, which does not call uvicorn's `__init__`, sets what that sets, to equal values."""
    config = Config(cast(Any, echo), lifespan="off", http=HttpProtocol, ws=WebSocketProtocol)
    state: dict[str, Any] = {"a": 1}
    server_state = ServerState()
    config.load()
    theirs, ours = (vars(kind(config, server_state, state)) for kind in (HttpToolsProtocol, HttpProtocol))
    assert theirs.pop("parser") is not ours.pop("parser")
    assert ours == theirs


def attributes_of_self(kind: type) -> set[str]:
    """The names behind `self.` in a class."""
    nodes = ast.walk(ast.parse(inspect.getsource(kind)))
    attributes = (node for node in nodes if isinstance(node, ast.Attribute))
    return {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "self"}


def test_app_imports_nothing_else_of_uvicorn() -> None:
    """A name that app imports from within uvicorn is in the list; ClientDisconnected is an exception without form."""
    listed = {name.partition(".")[0] for name in (entry.partition(":")[2] for entry in internals.UVICORN_CALLABLES)}
    listed |= set(internals.UVICORN_ATTRIBUTES) | {"ClientDisconnected"}
    unlisted = [
        f"{path.name}: {alias.name}"
        for path in (ROOT / "app").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("uvicorn")
        for alias in node.names
        if alias.name not in listed
    ]
    assert unlisted == []
    assert issubclass(found("uvicorn.protocols.utils:ClientDisconnected"), OSError)
    assert uvicorn.Server is Server


def test_picows_parser() -> None:
    """picows' parser takes the recorded parameters in this order; its compiled class does not tell, its source does."""
    source = files("picows").joinpath("picows.pyx").read_text()
    head = re.search(r"^cdef class WSProtocol\(.*?def __init__\(self,(.*?)\):", source, re.DOTALL | re.MULTILINE)
    assert head is not None
    names = tuple(part.split()[-1] for part in head[1].split(","))
    assert names == internals.PICOWS_PARSER


@pytest.mark.parametrize(("name", "parameters"), internals.PICOWS_METHODS.items())
def test_picows_methods(name: str, parameters: str) -> None:
    """Each method that Recado overrides or calls is there, with the recorded parameters."""
    assert parameters_of(found(f"picows.picows:{name}")) == parameters


@pytest.mark.parametrize(("kind", "names"), internals.PICOWS_ATTRIBUTES.items())
def test_picows_attributes(kind: str, names: tuple[str, ...]) -> None:
    """Each attribute that Recado reads is there."""
    assert [name for name in names if not hasattr(getattr(picows, kind), name)] == []
