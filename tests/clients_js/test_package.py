"""The package in clients/js: its size, its types, and its files."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import tarfile
from pathlib import Path

import httpx

from app.protocols.browser_module import small_module
from tests.support.deployment import Deployment
from tests.support.node_clients import install_clients
from tests.support.processes import REPOSITORY

#: The most bytes of the client, packed.
MOST_BYTES = 3 * 1024
_SECONDS = 100
_CLIENT = REPOSITORY / "clients" / "js"
_LIBRARIES = REPOSITORY / "tests" / "clients" / "node_modules"


def run(*command: str, cwd: Path) -> str:
    """Run a command that succeeds and return its output."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_size() -> None:
    """Packed with gzip both forms of the client, without socket.io-client, have at most 3 KB."""
    client, index = (small_module((_CLIENT / name).read_text()) for name in ("client.js", "index.js"))
    assert len(gzip.compress(client.encode(), 6)) <= MOST_BYTES
    assert len(gzip.compress((client + index).encode(), 6)) <= MOST_BYTES


def test_the_server_offers_it(server: Deployment) -> None:
    """Pages without packages load the client and its types from the server."""
    answer = httpx.get(f"{server.url}/recado/client.js")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.text == small_module((_CLIENT / "client.js").read_text())
    assert httpx.get(f"{server.url}/recado/client.d.ts").text == (_CLIENT / "client.d.ts").read_text()


def test_types(tmp_path: Path) -> None:
    """A page in TypeScript that uses every member passes the strictest check, and its mistakes are found."""
    install_clients()
    options = {
        "strict": True,
        "noEmit": True,
        "module": "esnext",
        "moduleResolution": "bundler",
        "target": "es2022",
        "lib": ["es2022", "dom"],
        "types": [],
        "skipLibCheck": False,
        "paths": {
            "recado-client": [str(_CLIENT / "index.d.ts")],
            "recado-client/client.js": [str(_CLIENT / "client.d.ts")],
            "socket.io-client": [str(_LIBRARIES / "socket.io-client-4" / "build" / "esm" / "index.d.ts")],
        },
    }
    project = {"compilerOptions": options, "files": [str(REPOSITORY / "tests" / "clients_js" / "usage.ts")]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(project))
    run("node", str(_LIBRARIES / "typescript" / "bin" / "tsc"), "--project", str(tmp_path), cwd=tmp_path)


def test_types_name_what_there_is(tmp_path: Path) -> None:
    """The types name every export and every member of a connection."""
    types = (_CLIENT / "client.d.ts").read_text()
    members = re.search(r"export interface Recado \{\n(.*?)\n\}", types, re.DOTALL)
    assert members
    script = """
        import * as client from "CLIENT";
        const socket = { onAny() {}, on() {}, io: { on() {}, off() {} }, connect() {}, disconnect() {} };
        const recado = client.connect("/site", { io: () => socket });
        const methods = Object.getOwnPropertyNames(Object.getPrototypeOf(recado));
        console.log(JSON.stringify([Object.keys(client), [...Object.keys(recado), ...methods]]));
        recado.close();
    """.replace("CLIENT", (_CLIENT / "client.js").as_uri())
    exports, found = json.loads(run("node", "--input-type=module", "-e", script, cwd=tmp_path))
    assert set(exports) == set(re.findall(r"^export function (\w+)", types, re.MULTILINE))
    named = re.findall(r"^  (?:readonly )?(\w+)[(:]", members[1], re.MULTILINE)
    assert {*named, "constructor"} == set(found)


def test_the_packed_form(tmp_path: Path) -> None:
    """The packed package has its code, types, licence and README alone, and works beside socket.io-client."""
    install_clients()
    run("npm", "pack", "--silent", "--pack-destination", str(tmp_path), cwd=_CLIENT)
    modules = tmp_path / "node_modules"
    modules.mkdir()
    with tarfile.open(next(tmp_path.glob("*.tgz"))) as archive:
        assert {name.removeprefix("package/") for name in archive.getnames()} == {
            *("LICENSE", "README.md", "client.d.ts", "client.js", "index.d.ts", "index.js", "package.json")
        }
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "package").rename(modules / "recado-client")
    for library in _LIBRARIES.iterdir():
        (modules / library.name.removesuffix("-4")).symlink_to(library)
    script = """
        import { connect, createStore } from "recado-client";
        const recado = connect("http://127.0.0.1:9/site");
        console.log(typeof createStore, recado.socket.nsp);
        recado.close();
    """
    assert run("node", "--input-type=module", "-e", script, cwd=tmp_path) == "function /site\n"


def test_without_the_library(tmp_path: Path) -> None:
    """A page that has not loaded socket.io-client is told so."""
    script = """
        import { connect } from "CLIENT";
        try { connect("/site"); } catch (error) { console.log(error.message); }
    """.replace("CLIENT", (_CLIENT / "client.js").as_uri())
    printed = run("node", "--input-type=module", "-e", script, cwd=tmp_path)
    assert printed == "recado: expected socket.io-client: load it first, or give it as `io`\n"
