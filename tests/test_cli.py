"""The command: its output, the stream that it goes to, and its exit code."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

import app.node.run
from app import cli
from app.config.settings import Config
from app.config.sources import Sources
from app.errors import ConfigError, StoreUnavailable
from app.node.announcement import tell_listening
from app.node.purge import PurgeRefused
from app.protocols.listed import PROTOCOLS
from tests.support.certificates import Authority
from tests.support.processes import REPOSITORY

Run = Callable[..., Result]
SITES = "newsite: {authUrl: 'http://127.0.0.1:9/', apiKey: hidden, userRoomPrefix: user_, device_ttl: 60}"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in an empty working directory, without this machine's environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("PORT", "HOST", "APP_ENV", "NODE_ENV", "REDIS_URL", "DEVICE_TTL", "SITE_NAME", "API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*arguments: str, **environ: str) -> Result:
        return CliRunner().invoke(cli.recado, arguments, env=environ)

    return invoke


class Server:
    """A server that gives every /send the same answer and keeps the requests. Lives for one test."""

    def __init__(self) -> None:
        self.status, self.text = 200, "OK"
        self.requests: list[tuple[str, str | None, bytes]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            """Handles one request, for which it lives."""

            def do_POST(self) -> None:
                """Keep the request and answer."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.requests.append((self.path, self.headers["X-API-Key"], body))
                self.send_response(server.status)
                self.end_headers()
                self.wfile.write(server.text.encode())

            def do_PUT(self) -> None:
                """Keep the request and answer."""
                self.do_POST()

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self._http = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._http.server_port
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def end(self) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server."""
    running = Server()
    yield running
    running.end()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Config, Sources]]]:
    """The settings that `serve` runs the server with. The server does not run here; the contract's tests run it."""
    calls: list[tuple[Config, Sources]] = []
    monkeypatch.setattr(app.node.run, "run", lambda config, specs, sources: calls.append((config, sources)))
    monkeypatch.setattr(cli, "configure_logging", lambda *_: None)
    monkeypatch.setattr(app.node.run, "missing_bundles", list)
    yield calls
    structlog.reset_defaults()


def test_serve_takes_settings_and_options(run: Run, served: list[tuple[Config, Sources]]) -> None:
    """Options take precedence over the environment, and the environment over the files."""
    Path("sites.yml").write_text(SITES)
    result = run("serve", "--port", "0", "--host", "::1", "--data-dir", "there", "--demo", PORT="80", DEVICE_TTL="7")
    assert result.exit_code == 0, result.output
    ((config, sources),) = served
    assert (config.port, config.host, config.data_dir, config.device_ttl_seconds) == (0, "::1", Path("there"), 7)
    assert (sources.config_path, sources.sites_path) == (None, None)
    assert (list(config.sites), sources.has_demo) == (["newsite"], True)


def test_serve_tells_of_missing_bundles(
    run: Run, monkeypatch: pytest.MonkeyPatch, served: list[tuple[Config, Sources]]
) -> None:
    """At the start the log names each browser client that is not installed; the server runs without them."""
    monkeypatch.setattr(app.node.run, "missing_bundles", lambda: ["one", "two"])
    with structlog.testing.capture_logs() as logs:
        result = run("serve", "--demo")
    assert (result.exit_code, len(served)) == (0, 1)
    assert [(line["log_level"], line["event"], line["reason"]) for line in logs] == [
        ("warning", "client bundle missing", "one"),
        ("warning", "client bundle missing", "two"),
    ]


@pytest.mark.parametrize(
    ("error", "exit_code"), [(StoreUnavailable("Valkey did\nnot start"), 1), (ConfigError("port is taken"), 2)]
)
def test_serve_fails_with_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, served: list[Any], error: Exception, exit_code: int
) -> None:
    """An error that keeps the server from starting is one line. A wrong setting exits 2, any other error 1."""

    def fail(config: Config, specs: object, sources: Sources) -> None:
        raise error

    monkeypatch.setattr(app.node.run, "run", fail)
    # Nothing to warn of.
    Path("sites.yml").write_text("shop: {authUrl: 'http://127.0.0.1:9/', apiKey: pu3WqTqXo0CqE5q1H5o0Jw}")
    result = run("serve")
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert result.stderr == f"recado: {' '.join(str(error).split())}\n"


def test_check_config(run: Run) -> None:
    """A good configuration is an OK line for the server and one for each site, without keys and URLs."""
    Path("s.yml").write_text(SITES + "\nplain: {authUrl: 'http://127.0.0.1:9/', apiKey: hidden}")
    result = run("check-config", "--sites", "s.yml", REDIS_URL="redis://:hidden@h")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "OK environment production: port 1337, Redis, sites: 2",
        "OK site newsite: queues for rooms that begin with 'user_', kept 60 s after a disconnect",
        "OK site plain: no queues (no userRoomPrefix)",
        "WARNING newsite.apiKey: has fewer than 16 characters and can be guessed, `recado keys new` makes a key",
        "WARNING plain.apiKey: has fewer than 16 characters and can be guessed, `recado keys new` makes a key",
    ]


@pytest.mark.parametrize(
    ("config", "sites", "mistake"),
    [
        ("{redis: {url: 'rediss://h?ssl_ca_certs=/nowhere'}}", "{}", "redis.url: ssl_ca_certs: expected a file"),
        ("{workers: 2, flakeid: {worker: 1}}", "{}", "flakeid.worker: expected none with several workers"),
        ("{}", "a: {apiKey: k, redisPublish: {url: 'redis://h:99999'}}", "a.redisPublish.url: expected a URL"),
        ("{}", "a: {apiKey: k, topics: {jwt_secret: short}}", "site a: topics.jwt_secret: expected at least 32 bytes"),
        ("{mounts: {topics: a}}", "a: {apiKey: k, channels: {}}", "config.yml: production.mounts.topics: expected"),
    ],
)
def test_check_config_and_serve_agree(run: Run, served: list[Any], config: str, sites: str, mistake: str) -> None:
    """A configuration with which no server can start is refused by both commands, with the same line."""
    Path("config.yml").write_text(f"production: {config}")
    Path("sites.yml").write_text(sites)
    results = [run(command) for command in ("check-config", "serve")]
    assert [result.exit_code for result in results] == [2, 2]
    assert results[0].stderr == results[1].stderr
    assert results[0].stderr.startswith(f"recado: {mistake}")
    assert served == []


def test_check_config_reads_the_certificate(run: Run, tmp_path: Path) -> None:
    """check-config says whom the certificate is for, or why its files do not serve."""
    pair = Authority(tmp_path).sign("www.example.com")
    Path("config.yml").write_text(f"production: {{tls: {{cert: {pair.cert}, key: {pair.key}}}}}")
    lines = run("check-config").stdout.splitlines()
    assert lines[1].startswith("OK tls: CN=www.example.com for localhost, 127.0.0.1, until 20")
    pair.key.write_text("broken")
    result = run("check-config")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"recado: tls.key: {pair.key} does not serve: ")


def test_the_demo_has_an_operator(
    run: Run, served: list[tuple[Config, Sources]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A demo makes an operator for the run and shows its password as it listens, unless the settings name one, or there
    is no database for it. A reload finds the same."""
    assert run("serve", "--demo", "--port", "8080").stderr == ""
    (config, sources), password = served[0], served[0][0].console.operator_password
    assert password is not None
    tell_listening(config, sources, "http://127.0.0.1:8080")
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown == f"Console: http://127.0.0.1:8080/console  name: demo  password: {password}"
    assert sources.load(PROTOCOLS).console == config.console
    assert password not in f"{config!r} {sources!r}"
    named = {"RECADO_OPERATOR": "ana", "RECADO_OPERATOR_PASSWORD": "correct horse"}
    for settings in ({"DATABASE_URL": "none"}, named):
        assert run("serve", "--demo", **settings).stderr == ""
    assert [config.console.operator for config, _ in served[1:]] == [None, "ana"]


def test_no_demo_with_tls(run: Run, served: list[Any]) -> None:
    """The demo's site asks its own server over HTTP: with TLS it is refused in words."""
    Path("config.yml").write_text("production: {tls: {cert: a.pem, key: a.key}}")
    result = run("serve", "--demo")
    assert (result.exit_code, served) == (2, [])
    assert result.stderr.startswith("recado: tls: expected none with --demo")


def test_example_files_are_usable(run: Run, served: list[tuple[Config, Sources]]) -> None:
    """The example files, copied as they are, pass check-config and are served."""
    for name in ("config", "sites"):
        Path(f"{name}.yml").write_text((REPOSITORY / f"{name}.example.yml").read_text())
    assert run("check-config").exit_code == 0
    assert run("serve").exit_code == 0
    assert list(served[0][0].sites) == ["newsite", "livescores"]


def test_demo_listens_on_loopback(run: Run, served: list[tuple[Config, Sources]]) -> None:
    """The demo's key is known to everybody: only this machine reaches it, unless an address is given."""
    for arguments, environ, host in (
        (["--demo"], {}, "127.0.0.1"),
        (["--demo", "--host", "0.0.0.0"], {}, "0.0.0.0"),
        (["--demo"], {"HOST": "10.0.0.7"}, "10.0.0.7"),
        ([], {}, "0.0.0.0"),
    ):
        assert run("serve", *arguments, **environ).exit_code == 0
        assert served.pop()[0].host == host


def test_every_mistake_is_a_line(run: Run) -> None:
    """Several mistakes are several lines on stderr."""
    Path("config.yml").write_text("production: {prot: 1, workers: 0}")
    lines = run("check-config").stderr.splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == ["config.yml", "config.yml"]


@pytest.mark.parametrize("command", ["check-config", "serve", "send --site a --room b --event c", "purge --yes a"])
def test_mistake_is_one_line_and_exit_2(run: Run, command: str, served: list[Any]) -> None:
    """Every command that reads a wrong file says so in one line on stderr."""
    Path("config.yml").write_text("production: {prot: 1}")
    result = run(*command.split())
    assert (result.exit_code, result.stdout, served) == (2, "", [])
    assert result.stderr.startswith("recado: config.yml: production.prot: unknown key")
    assert result.stderr.count("\n") == 1


def test_send(run: Run, server: Server) -> None:
    """Rooms, event and arguments are posted with the key of sites.yml to the configured port; the answer is printed."""
    Path("sites.yml").write_text(SITES)
    arguments = ["send", "--site", "newsite", "--room", "user_8", "--room", "b", "--event", "news", "--resync"]
    result = run(*arguments, "--", '{"id": 3}', "hello", "-1", "null", '"5"', "", PORT=str(server.port))
    assert (result.exit_code, result.output) == (0, "OK\n")
    ((path, key, body),) = server.requests
    assert (path, key) == ("/send?site=newsite&resync=true", "hidden")
    assert body == b'{"rooms":["user_8","b"],"event":"news","args":[{"id":3},"hello",-1,null,"5",""]}'


@pytest.mark.parametrize(
    ("options", "environ", "key"),
    [(["--api-key", "mine"], {"API_KEY": "env"}, "mine"), ([], {"API_KEY": "env"}, "env")],
)
def test_send_to_a_server_elsewhere(
    run: Run, server: Server, options: list[str], environ: dict[str, str], key: str
) -> None:
    """With --url, and a key from the option or the environment, no local configuration is read."""
    Path("config.yml").write_text("broken: [")
    url = f"http://127.0.0.1:{server.port}/"
    result = run("send", "--site", "x", "--room", "a", "--event", "e", "--url", url, *options, **environ)
    assert (result.exit_code, result.output) == (0, "OK\n")
    assert server.requests[0][:2] == ("/send?site=x&resync=false", key)


def test_send_that_is_refused(run: Run, server: Server) -> None:
    """The server's refusal is one line with its status, exit code 1."""
    server.status, server.text = 401, "ApiKey invalid."
    url = f"http://127.0.0.1:{server.port}"
    result = run("send", "--site", "x", "--room", "a", "--event", "e", "--url", url, "--api-key", "hidden")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "recado: the server answered 401: ApiKey invalid.\n"


def test_send_without_a_server(run: Run) -> None:
    """A server that is not there is one line with the URL and the reason, exit code 1."""
    url = "http://127.0.0.1:1"
    result = run("send", "--site", "x", "--room", "a", "--event", "e", "--url", url, "--api-key", "hidden")
    assert (result.exit_code, result.stderr) == (1, f"recado: no answer from {url}: connection failed\n")


def test_send_without_a_key(run: Run) -> None:
    """A site that is not configured here needs a key from elsewhere, and the line names the sources of a key."""
    result = run("send", "--site", "x", "--room", "a", "--event", "e")
    assert result.exit_code == 1
    assert result.stderr == (
        "recado: site 'x' is not configured here: expected --api-key, API_KEY or a site of sites.yml\n"
    )


REGISTRY = '[{"endpoint": "a/b", "owner": "7", "pub": ["7"]}, {"endpoint": "c", "owner": "8"}]'


def test_import(run: Run, server: Server, tmp_path: Path) -> None:
    """`recado import` sends each thing of a file to the running server; a dry run sends nothing."""
    (tmp_path / "sites.yml").write_text(SITES)
    (tmp_path / "registry.json").write_text(REGISTRY)
    command = ("import", "es-web-notify", "--site", "newsite", "registry.json")
    assert run(*command, "--dry-run").output == "OK registry.json: 2 to import, nothing was changed\n"
    assert server.requests == []
    result = run(*command, PORT=str(server.port))
    assert (result.exit_code, result.output) == (0, "OK registry.json: 2 imported into site newsite\n")
    assert [(path, key) for path, key, _ in server.requests] == [
        ("/topics/newsite/registry/a%2Fb", "hidden"),
        ("/topics/newsite/registry/c", "hidden"),
    ]


def test_import_that_fails(run: Run, server: Server, tmp_path: Path) -> None:
    """A refusal, a server that is not there and a file that cannot be read are one line and exit 1."""
    (tmp_path / "registry.json").write_text(REGISTRY)
    (tmp_path / "odd.json").write_text("[1]")
    server.status, server.text = 507, "too many"
    command = ("import", "es-web-notify", "--site", "s", "--api-key", "k", "--url")
    refused = run(*command, f"http://127.0.0.1:{server.port}", "registry.json")
    assert refused.exit_code == 1
    assert refused.output == "recado: topic 'a/b': the server answered 507: too many (0 done)\n"
    away = run(*command, "http://127.0.0.1:9", "registry.json")
    assert (away.exit_code, "the import may be repeated" in away.output) == (1, True)
    odd = run(*command, "http://127.0.0.1:9", "odd.json")
    assert (odd.exit_code, odd.output) == (
        1,
        "recado: odd.json: expected a JSON list of the rows of registered_endpoints\n",
    )


def test_purge_asks_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is deleted without a yes; a refusal is one line."""
    purged: list[str] = []

    async def purge(_: Config, site: str) -> int:
        purged.append(site)
        return 7

    async def check(_: Config, site: str) -> None:
        if site == "odl":
            raise PurgeRefused("no such site: 'odl'")

    with monkeypatch.context() as patch:
        patch.setattr(cli, "purge", purge)
        patch.setattr(cli, "check_purge", check)
        assert run("purge", "old").exit_code == 1
        unknown = run("purge", "odl")
        assert (unknown.exit_code, unknown.output) == (1, "recado: no such site: 'odl'\n")
        assert purged == []
        assert run("purge", "--yes", "old").stdout == "OK 7 keys deleted\n"
    assert purged == ["old"]
    Path("sites.yml").write_text(SITES)
    refused = run("purge", "--yes", "newsite")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "is in sites.yml" in refused.stderr


def test_new_keys_differ(run: Run) -> None:
    """`keys new` prints 43 characters that are safe in URLs and headers, new ones each time."""
    first, second = (run("keys", "new").stdout.strip() for _ in range(2))
    assert first != second
    assert len(first) == len(second) == 43
    assert first.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "command",
    ["serve", "check-config", "send", "purge", "keys new", "webhooks list", "webhooks retry", "webhooks test"],
)
def test_help_has_an_example(run: Run, command: str) -> None:
    """Every command shows its usage."""
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"  recado {command}" in result.stdout.partition("Example")[2]


def test_module_is_the_command() -> None:
    """`python -m app` is the command by another name."""
    done = subprocess.run(
        [sys.executable, "-m", "app", "keys", "new"], capture_output=True, text=True, timeout=20, check=True
    )
    assert len(done.stdout) == 44
