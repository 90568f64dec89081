"""The proxies of Debian, started on loopback with the files of deploy/, in folders of their own, mostly without TLS."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.certificates import Pair
from tests.support.ports import HOST, free_port
from tests.support.processes import REPOSITORY, ChildProcess
from tests.support.waiting import eventually

FOLDER = REPOSITORY / "deploy"
_PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
#: The addresses of the nodes in the files.
_NODES = ("10.0.0.1:1337", "10.0.0.2:1337")
_START_SECONDS = 60


@dataclass(frozen=True)
class Place:
    """A proxy's folder and ports. Ends with the proxy."""

    folder: Path
    #: The port that serves, and the one that leads to https.
    port: int
    plain_port: int
    pair: Pair | None = None


class Proxy:
    """One running proxy. Lives in the `with` of `running_proxy`."""

    def __init__(self, process: ChildProcess, place: Place) -> None:
        """Keep both."""
        self.process = process
        self.url = f"{'https' if place.pair else 'http'}://{HOST}:{place.port}"
        self.plain_url = f"http://{HOST}:{place.plain_port}"


def adapted(text: str, changes: Mapping[str, str]) -> str:
    """The text with these changes, each of which must have something to change."""
    for old, new in changes.items():
        assert old in text, f"expected in the file: {old}"
        text = text.replace(old, new)
    return text


def nginx_text(text: str, place: Place) -> str:
    """nginx.conf for this place, with files that need no rights."""
    folder = place.folder
    temporary = "".join(
        f"    {name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    changed = adapted(
        text,
        {
            "user www-data;": f"user {getpass.getuser()};",
            "worker_processes auto;": "worker_processes 1;",
            "worker_rlimit_nofile 65536;": "",
            "worker_connections 32768;": "worker_connections 1000;",
            "pid /run/nginx.pid;": f"pid {folder}/nginx.pid;",
            "/var/log/nginx": str(folder),
            "http {\n": "http {\n" + temporary,
            "listen 80;": f"listen {HOST}:{place.plain_port};",
            "listen 443 ssl http2;": f"listen {HOST}:{place.port}{' ssl http2' if place.pair else ''};",
        },
    )
    if place.pair is None:
        return _without(changed, "ssl_")
    files = {"/etc/ssl/recado/fullchain.pem": place.pair.cert, "/etc/ssl/recado/privkey.pem": place.pair.key}
    return adapted(changed, {old: str(new) for old, new in files.items()})


def haproxy_text(text: str, place: Place) -> str:
    """haproxy.cfg for this place."""
    if place.pair is None:
        redirect = "http-request redirect scheme https code 308 unless { ssl_fc }"
        plain = adapted(text, {"bind :80": f"bind {HOST}:{place.port}", redirect: "", "maxconn 60000": "maxconn 1000"})
        return _without(plain, "bind :443")
    both = place.folder / "both.pem"
    both.write_bytes(place.pair.cert.read_bytes() + place.pair.key.read_bytes())
    ports = {"bind :80": f"bind {HOST}:{place.plain_port}", "bind :443": f"bind {HOST}:{place.port}"}
    return adapted(text, {**ports, "/etc/ssl/recado/both.pem": str(both), "maxconn 60000": "maxconn 1000"})


def caddy_text(text: str, place: Place) -> str:
    """The Caddyfile for this place, without Caddy's own door for its configuration."""
    options = f"{{\n\tadmin off\n\tstorage file_system {place.folder}\n\thttp_port {place.plain_port}\n}}\n"
    scheme, tls = ("http", "") if place.pair is None else ("https", f"\n\ttls {place.pair.cert} {place.pair.key}")
    name = HOST if place.pair else ""
    return options + adapted(text, {"push.example.com {": f"{scheme}://{name}:{place.port} {{\n\tbind {HOST}{tls}"})


def _without(text: str, beginning: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.strip().startswith(beginning))


#: Name -> its file in deploy/, the change for a test, and the command.
_FORMS = {
    "nginx": ("nginx.conf", nginx_text, ("nginx", "-g", "daemon off;", "-c")),
    "haproxy": ("haproxy.cfg", haproxy_text, ("haproxy", "-f")),
    "caddy": ("Caddyfile", caddy_text, ("caddy", "run", "--adapter", "caddyfile", "--config")),
}
NAMES = tuple(_FORMS)


@contextmanager
def running_proxy(
    name: str,
    node_urls: Sequence[str],
    folder: Path,
    changes: Mapping[str, str] | None = None,
    pair: Pair | None = None,
) -> Iterator[Proxy]:
    """The proxy of this name in front of two nodes, with its file of deploy/ and further changes of it; with TLS when
    there is a certificate."""
    file, change, command = _FORMS[name]
    place = Place(folder, free_port(), free_port(), pair)
    folder.mkdir(parents=True, exist_ok=True)
    nodes = {old: urlsplit(url).netloc for old, url in zip(_NODES, node_urls, strict=True)}
    text = change(adapted((FOLDER / file).read_text(), {**(changes or {}), **nodes}), place)
    (folder / file).write_text(text)
    environment = {"PATH": _PATHS, "HOME": str(folder)}
    process = ChildProcess(name, [*command, str(folder / file)], folder, {**os.environ, **environment})
    try:
        eventually(lambda: _listens(place.port) or process.returncode is not None, f"{name} to listen", _START_SECONDS)
        assert process.returncode is None, process.lines.snapshot()
        yield Proxy(process, place)
    finally:
        process.end()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
