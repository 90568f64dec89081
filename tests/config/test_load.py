"""Every source of settings, their precedence, and the one line for each mistake."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from msgspec import Struct
from msgspec.structs import fields

from app.config.keys import Blocks
from app.config.load import check_site_name, load_config
from app.config.settings import (
    BatchLimit,
    ClusterSettings,
    Config,
    ConsoleSettings,
    HistoryLimit,
    QueueLimit,
    Site,
    SiteLimits,
)
from app.errors import ConfigError
from app.protocols.channels.settings import Channels
from app.protocols.listed import PROTOCOLS
from app.protocols.messenger.settings import Messenger
from app.protocols.redis_publish.settings import RedisPublish
from app.protocols.topics.settings import Topics

EXAMPLES = Path(__file__).parent.parent.parent
Load = Callable[..., Config]
SITE = "authUrl: 'http://127.0.0.1/rooms', apiKey: 54321"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads files of the given content from an otherwise empty working directory."""
    monkeypatch.chdir(tmp_path)

    def from_content(
        config: str | None = None, sites: str | None = None, environ: Mapping[str, str] | None = None
    ) -> Config:
        for name, content in (("config.yml", config), ("sites.yml", sites)):
            if content is not None:
                Path(name).write_text(content)
        return load_config(None, None, environ or {}, PROTOCOLS)

    return from_content


def mistake(load: Load, *content: str | None, environ: Mapping[str, str] | None = None) -> str:
    """The line for a mistake."""
    with pytest.raises(ConfigError) as caught:
        load(*content, environ=environ)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_defaults(load: Load) -> None:
    """Both files may be missing or empty; then the contract's defaults hold."""
    config = load()
    assert config == load("", "# nothing yet")
    assert (config.environment, config.port, config.device_ttl_seconds) == ("production", 1337, 3600)
    assert (config.redis_url, config.datacenter, config.worker, config.sites) == (None, None, None, {})
    assert (config.queue_limit, config.batch_limit) == (QueueLimit(), BatchLimit())


def test_every_key_of_the_example_files(load: Load) -> None:
    """The example files hold every key and no other, and the defaults that they show are true."""
    config, sites = (
        yaml.safe_load((EXAMPLES / name).read_text()) for name in ("config.example.yml", "sites.example.yml")
    )
    blocks = Blocks(PROTOCOLS)
    assert keys_of(blocks.environment) == keys_in(config["production"])
    # A private key in an example would be used as it is, so there is none.
    assert "# private_key: |" in (EXAMPLES / "sites.example.yml").read_text()
    assert keys_of(blocks.site) == keys_in(sites["newsite"]) | {"topics.private_key"}
    assert load((EXAMPLES / "config.example.yml").read_text()) == Config()
    assert list(load(None, (EXAMPLES / "sites.example.yml").read_text()).sites) == ["newsite", "livescores"]


def keys_of(section: type[Struct]) -> set[str]:
    """The dotted keys that a section may hold."""
    keys = set()
    for field in fields(section):
        inner = [kind for kind in get_args(field.type) if isinstance(kind, type) and issubclass(kind, Struct)]
        keys |= {f"{field.encode_name}.{key}" for key in keys_of(inner[0])} if inner else {field.encode_name}
    return keys


def keys_in(section: Mapping[str, Any]) -> set[str]:
    """The dotted keys that a section of a file holds. The keys in `binds` are names of channels and topics."""
    keys = set()
    for key, value in section.items():
        is_section = isinstance(value, dict) and key != "binds"
        keys |= {f"{key}.{inner}" for inner in keys_in(value)} if is_section else {key}
    return keys


def test_block_of_the_environment(load: Load) -> None:
    """APP_ENV names the block, else NODE_ENV, else it is production. An empty variable counts as not set."""
    blocks = "production: {port: 1}\nstaging: {port: 2}\ntest: {port: 3}"
    assert load(blocks).port == 1
    assert load(blocks, environ={"NODE_ENV": "staging"}).port == 2
    assert load(blocks, environ={"NODE_ENV": "staging", "APP_ENV": "test"}).port == 3
    assert load(blocks, environ={"NODE_ENV": "staging", "APP_ENV": ""}).environment == "staging"


def test_every_key_of_a_block(load: Load) -> None:
    """Each key of config.yml arrives in its setting."""
    config = load(
        """
        production:
          host: 127.0.0.1
          port: 80
          device_ttl: 0
          data_dir: /var/lib/recado
          redis: {url: "unix:///run/redis.sock"}
          flakeid: {datacenter: 31, worker: 0}
          io: {pingInterval: 300, pingTimeout: 200, maxPayload: 5000}
          max_body: 1
          queue_limit: {messages: 5}
          batch_limit: {bytes: 6}
          outbox_limit: 7
          auth_timeout: 0.5
          drain_timeout: 0
          shutdown_timeout: 3
          redis_timeout: 1
          workers: 4
          cluster: {url: "https://[2001:db8::7]:1337/", secret: "a b"}
          client_bundle: 2
          log_level: debug
          log_format: json
        """
    )
    assert config == Config(
        host="127.0.0.1",
        port=80,
        device_ttl_seconds=0,
        data_dir=Path("/var/lib/recado"),
        redis_url="unix:///run/redis.sock",
        datacenter=31,
        worker=0,
        ping_interval_ms=300,
        ping_timeout_ms=200,
        max_payload_bytes=5000,
        max_body_bytes=1,
        queue_limit=QueueLimit(messages=5),
        batch_limit=BatchLimit(bytes=6),
        outbox_limit_bytes=7,
        auth_timeout_seconds=0.5,
        drain_timeout_seconds=0.0,
        shutdown_timeout_seconds=3.0,
        redis_timeout_seconds=1.0,
        workers=4,
        cluster=ClusterSettings(url="https://[2001:db8::7]:1337/", secret="a b"),
        client_bundle=2,
        log_level="debug",
        log_format="json",
    )


def test_environment_variables_win(load: Load) -> None:
    """PORT, HOST, DEVICE_TTL, REDIS_URL and RECADO_* take the place of the file's values."""
    config = load(
        "production: {port: 1, device_ttl: 1, redis: {url: 'redis://file'}, host: file, io: {pingTimeout: 9}}",
        environ={
            "PORT": "8080",
            "HOST": "::1",
            "DEVICE_TTL": "60",
            "REDIS_URL": "rediss://u:p@variable:6380/1",
            "RECADO_DATA_DIR": "/data",
            "RECADO_WORKERS": "3",
            "RECADO_NODE_URL": "http://10.0.0.7:1337",
            "RECADO_CLUSTER_SECRET": "hidden",
            "RECADO_CLIENT_BUNDLE": "1",
            "RECADO_LOG_LEVEL": "warning",
            "RECADO_LOG_FORMAT": "console",
        },
    )
    assert (config.port, config.host, config.device_ttl_seconds) == (8080, "::1", 60)
    assert (config.redis_url, config.data_dir) == ("rediss://u:p@variable:6380/1", Path("/data"))
    assert (config.log_level, config.log_format, config.ping_timeout_ms) == ("warning", "console", 9)
    assert config.client_bundle == 1
    assert (config.workers, config.cluster) == (3, ClusterSettings(url="http://10.0.0.7:1337", secret="hidden"))


def test_every_key_of_a_site(load: Load) -> None:
    """Each key of sites.yml arrives in the setting that it is for; an absent limit is the server's."""
    sites = load(
        "production: {device_ttl: 9, queue_limit: {messages: 5, bytes: 6}, outbox_limit: 7}",
        """
        new site/é:
          authUrl: https://www.example.com:8443/rooms?x=1
          authScheme: Token
          apiKey: "54321"
          userRoomPrefix: user_
          updateUserUrl: http://[::1]/users/:id
          publicChannel: everyone
          origins: ["https://www.example.com", "http://localhost:3000"]
          queue_limit: {bytes: 60}
        """,
    ).sites
    assert sites == {
        "new site/é": Site(
            name="new site/é",
            auth_url="https://www.example.com:8443/rooms?x=1",
            auth_scheme="Token",
            api_key="54321",
            user_room_prefix="user_",
            update_user_url="http://[::1]/users/:id",
            public_channel="everyone",
            origins=("https://www.example.com", "http://localhost:3000"),
            device_ttl_seconds=9,
            queue_limit=QueueLimit(messages=5, bytes=60),
            outbox_limit_bytes=7,
        )
    }


@pytest.mark.parametrize("key", ["54321", "0123", "1.50", "1e3", "0x1F", "12:30", "99999999999999999999", "1_000"])
def test_number_as_api_key_is_text_as_written(load: Load, key: str) -> None:
    """A number keeps the characters of the file: no octal, no rounding, no minutes."""
    assert load(None, f"a: {{authUrl: 'http://x/', apiKey: {key}}}").sites["a"].api_key == key


def test_names_are_text_as_written(load: Load) -> None:
    """A site may be called 123 or on."""
    assert list(load(None, f"123: {{{SITE}}}\non: {{{SITE}}}\n1.0: {{{SITE}}}").sites) == ["123", "on", "1.0"]


@pytest.mark.parametrize(("prefix", "has_queues"), [("user_", True), ('""', False), ("null", False)])
def test_prefix_turns_the_queues_on(load: Load, prefix: str, has_queues: bool) -> None:
    """A site has queues when userRoomPrefix is given and not empty."""
    assert load(None, f"a: {{{SITE}, userRoomPrefix: {prefix}}}").sites["a"].has_queues is has_queues


def test_site_from_the_environment(load: Load) -> None:
    """SITE_NAME and its companions make a site beside the file's, or override the file's site of that name."""
    environ = {
        "SITE_NAME": "solo",
        "AUTH_URL": "http://auth/",
        "AUTH_SCHEME": "Solo",
        "API_KEY": "0123",
        "USER_ROOM_PREFIX": "user_",
        "UPDATE_USER_URL": "http://auth/:id",
        "PUBLIC_CHANNEL": "all",
    }
    solo = Site(
        name="solo",
        auth_url="http://auth/",
        auth_scheme="Solo",
        api_key="0123",
        user_room_prefix="user_",
        update_user_url="http://auth/:id",
        public_channel="all",
    )
    assert load(None, f"a: {{{SITE}}}", environ).sites["solo"] == solo
    assert list(load(None, None, environ).sites) == ["a", "solo"]
    over = load(None, None, {"SITE_NAME": "a", "API_KEY": "new"}).sites["a"]
    assert (over.api_key, over.auth_url) == ("new", "http://127.0.0.1/rooms")


def test_a_messenger_from_the_environment(load: Load) -> None:
    """The first admin of a messenger comes from the environment, for a site of the file or for one that is in none; a
    mistake names the variable or the site."""
    admin = {"RECADO_ADMIN_LOGIN": "ana", "RECADO_ADMIN_PASSWORD": "secret"}
    solo = {"SITE_NAME": "solo", "API_KEY": "0123", **admin}
    site = load(None, None, solo).sites["solo"]
    assert (site.user_room_prefix, site.require_section(Messenger).admin_login) == ("user_", "ana")
    text = "solo: {apiKey: abc, messenger: {fail_count: 5}}"
    changed = load(None, text, {"SITE_NAME": "solo", **admin}).sites["solo"].require_section(Messenger)
    assert (changed.fail_count, changed.admin_login, changed.admin_password) == (5, "ana", "secret")
    for environ, sites, line in (
        (
            {"SITE_NAME": "a", **admin},
            f"a: {{{SITE}}}",
            "SITE_NAME=a: `messenger:` is missing in sites.yml, expected it",
        ),
        ({**solo, "RECADO_ADMIN_PASSWORD": ""}, None, "solo.messenger.admin_password: is missing"),
        ({**solo, "RECADO_ADMIN_LOGIN": ""}, None, "solo.messenger.admin_login: is missing"),
        ({**solo, "RECADO_ADMIN_LOGIN": "a\x01"}, None, "solo.messenger.admin_login: Login: expected text"),
        ({**solo, "RECADO_ADMIN_LOGIN": "a" * 65}, None, "environment variable RECADO_ADMIN_LOGIN: expected text"),
        ({**solo, "AUTH_URL": "http://auth/"}, None, "solo.messenger.admin_login: expected no such key beside authUrl"),
    ):
        found = mistake(load, None, sites, environ=environ)
        assert found.startswith(line), found
        assert "secret" not in found


def test_merged_yaml(load: Load) -> None:
    """Anchors and merge keys work, and a key overrides a merged one."""
    config = "defaults: &defaults\n  port: 1\n  device_ttl: 2\nproduction:\n  <<: *defaults\n  port: 3\n"
    assert (load(config).port, load(config).device_ttl_seconds) == (3, 2)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ("production: {prot: 1}", "config.yml: production.prot: unknown key, did you mean port?"),
        ("production: {redis: {uri: x}}", "config.yml: production.redis.uri: unknown key, did you mean url?"),
        ("production: {}\nother: {prot: 1}", "config.yml: other.prot: unknown key, did you mean port?"),
        ("production: {port: soon}", "config.yml: production.port: expected a whole number, got text"),
        ("production: {port: 65536}", "config.yml: production.port: expected a whole number <= 65535"),
        ("production: {port: true}", "config.yml: production.port: expected a whole number, got true or false"),
        ("production: {port: 1.5}", "config.yml: production.port: expected a whole number, got a number"),
        ("production: {device_ttl: -1}", "config.yml: production.device_ttl: expected a whole number >= 0"),
        ("production: {flakeid: {worker: 32}}", "config.yml: production.flakeid.worker: expected a whole number <= 31"),
        ("production: {redis: 5}", "config.yml: production.redis: expected a mapping, got a whole number"),
        ("production: {queue_limit: {bytes: 0}}", "config.yml: production.queue_limit.bytes: expected a whole number "),
        ("production: {auth_timeout: .nan}", "config.yml: production.auth_timeout: expected a number > 0"),
        ("production: {data_dir: 5}", "config.yml: production.data_dir: expected text that is not empty"),
        ("production: {client_bundle: 3}", "config.yml: production.client_bundle: expected 1, 2 or 4, got 3"),
        ("production: {client_bundle: '4'}", "config.yml: production.client_bundle: expected a whole number, got text"),
        ("production: {log_level: loud}", "config.yml: production.log_level: expected one of debug, info, "),
        ("production: {log_format: xml}", "config.yml: production.log_format: expected one of auto, json, console"),
        ("production: {workers: 0}", "config.yml: production.workers: expected a whole number >= 1"),
        ("production: {console: 5}", "config.yml: production.console: expected true or false, got a whole number"),
        ("production: {console: {port: 0}}", "config.yml: production.console.port: expected a whole number >= 1"),
        ("production: {console: {operator: 'a b'}}", "config.yml: production.console.operator: expected a name of at"),
        (
            "production: {console: {operator: ana, operator_password: short}}",
            "config.yml: production.console.operator_password: expected text of length >= 10",
        ),
        (
            "production: {console: {errors_to: {site: ops}}}",
            "config.yml: production.console.errors_to.room: is missing, expected site and room together",
        ),
        (
            "production: {console: {operator: ana}}",
            "config.yml: production.console.operator_password: is missing, expected it beside console.operator",
        ),
        ("production: {console: {oidc: {client_id: a}}}", "config.yml: production.console.oidc.issuer: is missing"),
        (
            "production: {console: {oidc: {issuer: 'http://id.example.com'}}}",
            "config.yml: production.console.oidc.issuer: expected a URL that begins with https://, without query",
        ),
        (
            "production: {console: {oidc: {issuer: 'https://a', client_id: b}}}",
            "config.yml: production.console.oidc.public_url: is missing, expected it beside issuer",
        ),
        (
            "production: {console: {oidc: {public_url: 'https://a/b'}}}",
            "config.yml: production.console.oidc.public_url: expected a URL such as https://push.example.com",
        ),
        (
            "production: {console: {oidc: {issuer: 'https://a', client_id: b, public_url: 'https://c'}}}",
            "config.yml: production.console.oidc.roles: is missing, expected it with role_claim, or a default_role",
        ),
        (
            "production: {console: {oidc: {default_role: boss}}}",
            "config.yml: production.console.oidc.default_role: expected one of admin, operator, viewer",
        ),
        (
            "production: {console: {oidc: {issuer: 'https://a', client_id: b, public_url: 'https://c',"
            " default_role: viewer, scopes: [email]}}}",
            "config.yml: production.console.oidc.scopes: expected openid among them",
        ),
        (
            "production: {cluster: {secret: s}}",
            "config.yml: production.cluster.url: is missing, expected url and secret together",
        ),
        (
            "production: {cluster: {url: 'http://a'}}",
            "config.yml: production.cluster.secret: is missing, expected url and secret together",
        ),
        ("production: {drain_timeout: 20000}", "config.yml: production.drain_timeout: expected a number <= 3600"),
        ("production: {shutdown_timeout: 8000}", "config.yml: production.shutdown_timeout: expected a number <= 3600"),
        (
            "production: {cluster: {url: 'http://a/b'}}",
            "config.yml: production.cluster.url: expected a URL that begins with http:// or https://, without user "
            "name and path",
        ),
        ("production: 5", "config.yml: production: expected a mapping, got a whole number"),
        ("staging: {}", "config.yml: expected a block for the environment 'production', found staging"),
        ("- production", "config.yml: expected a mapping of names to settings"),
        ("production:\n  port: 1\n  port: 2", "config.yml:3: not valid YAML: key 'port' stands twice"),
        ("production:\n  ? [a]\n  : 1", "config.yml:2: not valid YAML: a key must be text"),
        ("production:\n  port: [", "config.yml:2: not valid YAML: "),
        ("production:\n\tport: 1", "config.yml:2: not valid YAML: "),
        ('production:\n  host: "a\\ud83d"', "config.yml:2: not valid YAML: half of a surrogate pair"),
        ("production:\n  port: 2024-13-45", "config.yml:2: not valid YAML: month must be in 1..12"),
        (
            "production: !!python/object:os.system {}",
            "config.yml:1: not valid YAML: could not determine a constructor ",
        ),
        ("\x00", "config.yml: not valid YAML: special characters are not allowed at position 0"),
        ("[" * 5000, "config.yml: nested too deeply"),
    ],
)
def test_mistakes_in_config_yml(load: Load, config: str, line: str) -> None:
    """Each mistake is one line with the file, the key or line, and the expected value."""
    assert mistake(load, config).startswith(line)


@pytest.mark.parametrize(
    ("sites", "line"),
    [
        (f"a: {{{SITE}, authURL: x}}", "sites.yml: a.authURL: unknown key, did you mean authUrl?"),
        ("a: {apiKey: k}", "sites.yml: a: authUrl is missing, expected a URL that begins with http:// or https://"),
        ("a: {authUrl: 'http://x/'}", "sites.yml: a: apiKey is missing, expected the text that /send must present"),
        ("a: {authUrl: 'http://x/', apiKey: ''}", "sites.yml: a.apiKey: expected text that is not empty"),
        ("a: {authUrl: 'http://x/', apiKey: true}", "sites.yml: a.apiKey: expected text or a list, got true or false"),
        ("a: {authUrl: 'http://x/', apiKey: [k, k]}", "sites.yml: a.apiKey: expected one key, or a list of two"),
        ("a: {authUrl: 'http://x/', apiKey: [a, b, c]}", "sites.yml: a.apiKey: expected one key, or a list of two"),
        ("a: {authUrl: rooms}", "sites.yml: a.authUrl: expected a URL that begins with http:// or https://"),
        ("a: {authUrl: 'http://:80/'}", "sites.yml: a.authUrl: expected a URL that begins with http:// or https://"),
        ("a: {authUrl: 'http://x y/'}", "sites.yml: a.authUrl: expected a URL that begins with http:// or https://"),
        ("a: {authUrl: 'http://u:p@x/'}", "sites.yml: a.authUrl: expected a URL that begins with http:// or https://"),
        (f'a: {{{SITE}, authScheme: "a\\nb"}}', "sites.yml: a.authScheme: expected text of printable ASCII characters"),
        (f"a: {{{SITE}, origins: 'http://x'}}", "sites.yml: a.origins: expected a list, got text"),
        (f"a: {{{SITE}, origins: ['http://x/']}}", "sites.yml: a.origins: expected an origin such as https://www"),
        ("a: 5", "sites.yml: a: expected a mapping, got a whole number"),
        (f"'a ': {{{SITE}}}", "sites.yml: site name 'a ': expected text other"),
        (f"~canary: {{{SITE}}}", "sites.yml: site name '~canary': expected another one, this is the server's own"),
    ],
)
def test_mistakes_in_sites_yml(load: Load, sites: str, line: str) -> None:
    """Each mistake is one line with the file, the site, the key and the expected value."""
    assert mistake(load, None, sites).startswith(line)


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"PORT": "http"}, "environment variable PORT: expected a whole number, got text"),
        ({"DEVICE_TTL": "-1"}, "environment variable DEVICE_TTL: expected a whole number >= 0"),
        ({"REDIS_URL": "localhost"}, "environment variable REDIS_URL: expected a URL such as redis://host:6379/0, "),
        ({"REDIS_URL": "redis://host/one"}, "environment variable REDIS_URL: expected a URL such as redis://host"),
        ({"REDIS_URL": "redis+sentinel://host"}, "environment variable REDIS_URL: expected a URL such as redis://host"),
        ({"REDIS_URL": "redis+cluster://a,b/1"}, "environment variable REDIS_URL: expected a URL such as redis://host"),
        ({"SITE_NAME": "a", "API_KEY": "k"}, "SITE_NAME=a: authUrl is missing"),
        ({"SITE_NAME": "a", "AUTH_URL": "b"}, "environment variable AUTH_URL: expected a URL that begins with http"),
        ({"SITE_NAME": "a?", "AUTH_URL": "http://x", "API_KEY": "k"}, "environment variable SITE_NAME: site name 'a?'"),
    ],
)
def test_mistakes_in_the_environment(load: Load, environ: Mapping[str, str], line: str) -> None:
    """A mistake in a variable names the variable."""
    assert mistake(load, environ=environ).startswith(line)


def test_json_escapes_of_a_site_name(load: Load) -> None:
    """A file that a JSON library wrote may escape a character as two halves: they are one character."""
    config = load(
        None, r'{"d\u00eda \ud83d\ude00": {"authUrl": "http://127.0.0.1/rooms", "apiKey": "5432154321543215"}}'
    )
    assert list(config.sites) == ["día 😀"]


@pytest.mark.parametrize("name", ["", "/", " a", "a\n", "a{b", "a}", "a,b", "a?", "a#", "a\x07", "a\x85b", "a\u2028"])
def test_impossible_site_names(name: str) -> None:
    """A site name that a namespace, a hash tag or a query cannot carry is refused."""
    with pytest.raises(ConfigError, match="site name"):
        check_site_name(name, "sites.yml")


@pytest.mark.parametrize("name", ["a", "new site", "crème/brûlée", "a:b*", "demo.1", "日本"])
def test_possible_site_names(name: str) -> None:
    """Any other name is accepted."""
    check_site_name(name, "sites.yml")


def test_named_files_must_exist(tmp_path: Path, load: Load) -> None:
    """A path given by argument or variable must lead to a readable file."""
    missing = tmp_path / "missing.yml"
    for config, sites, variable in ((missing, None, ""), (None, missing, ""), (None, None, str(missing))):
        with pytest.raises(ConfigError, match=r"missing\.yml: no such file"):
            load_config(config, sites, {"RECADO_SITES": variable}, PROTOCOLS)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path, None, {}, PROTOCOLS)


def test_argument_wins_over_variable(tmp_path: Path, load: Load) -> None:
    """A path on the command line wins over the path in RECADO_CONFIG."""
    (tmp_path / "a.yml").write_text("production: {port: 1}")
    (tmp_path / "b.yml").write_text("production: {port: 2}")
    assert load_config("a.yml", None, {"RECADO_CONFIG": "b.yml"}, PROTOCOLS).port == 1
    assert load_config(None, None, {"RECADO_CONFIG": "b.yml"}, PROTOCOLS).port == 2


def test_no_secret_is_shown(load: Load) -> None:
    """The repr of settings and the line about a mistake hold no key, no URL and no password."""
    config = load(
        "production: {redis: {url: 'redis://:hidden@h'}}", "a: {authUrl: 'http://x/?key=hidden', apiKey: hidden}"
    )
    assert "hidden" not in f"{config!r} {config.sites!r}"
    assert "hidden" not in repr(ClusterSettings(url="http://a", secret="hidden"))
    assert "hidden" not in mistake(load, "production: {redis: {url: 'http://:hidden@h'}}")
    assert "hidden" not in mistake(load, "", "a: {authUrl: 'ftp://hidden', apiKey: hidden}")


def test_a_site_without_auth_url(load: Load) -> None:
    """authUrl may be missing when another protocol reaches the site; `{}` turns a protocol on."""
    site = load(None, "shop: {apiKey: k, channels: {}, topics: {history: {seconds: 9}}, redisPublish: {conn_limit: 2}}")
    shop = site.sites["shop"]
    assert (shop.auth_url, shop.section(Channels)) == (None, Channels())
    assert shop.section(Topics) == Topics(history=HistoryLimit(seconds=9))
    assert shop.section(RedisPublish) == RedisPublish(conn_limit=2)
    assert "authUrl is missing" in mistake(load, None, "shop: {apiKey: k, binds: {news: everyone}}")


def test_mounts_name_sites_that_have_the_protocol(load: Load) -> None:
    """A mount of an unknown site, or of a site without the protocol, is a mistake that names the mount."""
    mounts = "production: {mounts: {topics: shop}}"
    assert load(mounts, "shop: {apiKey: k, topics: {}}").mounts == {"topics": "shop"}
    for sites in ("shop: {apiKey: k, channels: {}}", "other: {apiKey: k, topics: {}}"):
        assert "config.yml: production.mounts.topics: expected a site" in mistake(load, mounts, sites)


def test_a_mount_may_name_its_ports(load: Load) -> None:
    """A mount is a site, or a mapping with its site and the ports of the old server; topics have no such ports."""
    sites = "shop: {apiKey: k, channels: {}, topics: {}}"

    def ports(mount: str) -> tuple[dict[str, str], tuple[int, ...]]:
        config = load(f"production: {{port: 80, mounts: {{channels: {mount}}}}}", sites)
        return config.mounts, tuple(config.further_ports)

    assert ports("shop") == ports("{site: shop}") == ({"channels": "shop"}, ())
    assert ports("{site: shop, http_port: 81, ws_port: 82}") == ({"channels": "shop"}, (81, 82))
    assert ports("{site: shop, http_port: 80, ws_port: 82}") == ({"channels": "shop"}, (82,))
    assert ports("{site: shop, http_port: 82, ws_port: 82}") == ({"channels": "shop"}, (82,))
    assert ports("{site: null, ws_port: null}") == ({}, ())
    for mount, line in {
        "{channels: {ws_port: 82}}": "config.yml: production.mounts.channels.site: is missing, expected the name of a",
        "{channels: {site: other, ws_port: 82}}": "mounts.channels: expected a site of sites.yml",
        "{channels: {site: shop, ws_port: 0}}": "mounts.channels.ws_port: expected a whole number >= 1",
        "{channels: {site: shop, port: 82}}": "mounts.channels.port: unknown key",
        "{channels: [shop]}": "mounts.channels: expected text",
        "{topics: {site: shop}}": "mounts.topics: expected text",
    }.items():
        assert line in mistake(load, f"production: {{mounts: {mount}}}", sites), mount


def test_acks_of_channels(load: Load) -> None:
    """`acks` is one of two words."""
    site = load(None, "shop: {apiKey: k, channels: {acks: readme, recreate: true}}").sites["shop"]
    assert site.section(Channels) == Channels(acks="readme", recreate=True)
    assert "channels.acks: expected original or readme" in mistake(load, None, "a: {apiKey: k, channels: {acks: x}}")


def test_the_url_of_another_redis_is_secret() -> None:
    """No repr shows a password in redisPublish.url."""
    assert "hush" not in repr(RedisPublish(url="redis://:hush@127.0.0.1"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("[]", ()),
        ("[10.1.2.3/8, '2001:db8::1']", ("10.0.0.0/8", "2001:db8::1/128")),
        ("192.0.2.0/24", ("192.0.2.0/24",)),
    ],
)
def test_trusted_proxies(load: Load, given: str, expected: tuple[str, ...]) -> None:
    """Addresses and networks are given in a list, or in one text as the environment needs it."""
    assert load(f"production: {{trusted_proxies: {given}}}").trusted_proxies == expected
    from_environment = given.strip("[]").replace("'", "")
    assert load(environ={"RECADO_TRUSTED_PROXIES": from_environment}).trusted_proxies == expected


def test_private_proxies(load: Load) -> None:
    """`private` stands for the networks that do not exist on the internet."""
    networks = load(environ={"RECADO_TRUSTED_PROXIES": "private, 192.0.2.1"}).trusted_proxies
    assert {"127.0.0.0/8", "10.0.0.0/8", "fc00::/7", "192.0.2.1/32"} < set(networks)
    line = mistake(load, "production: {trusted_proxies: [localhost]}")
    expected = "expected addresses, networks such as 10.0.0.0/8, or private, got 'localhost'"
    assert line == f"config.yml: production.trusted_proxies: {expected}"
    line = mistake(load, "production: {trusted_proxies: []}", environ={"RECADO_TRUSTED_PROXIES": "localhost"})
    assert line == f"environment variable RECADO_TRUSTED_PROXIES: {expected}"


def test_limits_of_a_site(load: Load) -> None:
    """A site has the limits of config.yml where it has none of its own; 0 removes one."""
    config = load(
        "production: {limits: {connections: 10, sends_per_second: 2.5}, auth_concurrency: 9}",
        f"a: {{{SITE}, limits: {{connections: 0, message_bytes: 7}}, auth_concurrency: 3}}\nb: {{{SITE}}}",
    )
    assert config.sites["a"].limits == SiteLimits(sends_per_second=2.5, message_bytes=7)
    assert config.sites["b"].limits == SiteLimits(connections=10, sends_per_second=2.5)
    assert (config.sites["a"].auth_concurrency, config.sites["b"].auth_concurrency) == (3, 9)


def test_sites_do_not_share_what_they_hear(load: Load) -> None:
    """Two sites with one prefix on one Redis are a mistake, on two Redises not; two owners of a namespace are one."""
    shop = "shop: {apiKey: k, redisPublish: {%s}}\nnews: {apiKey: k, redisPublish: {%s}}"
    same = "news.redisPublish.prefix: expected another than that of 'shop' on the same Redis"
    assert same in mistake(load, None, shop % ("", "prefix: rm"))
    url = "redis://127.0.0.1:7777"
    assert same in mistake(load, f"production: {{redis: {{url: '{url}'}}}}", shop % ("", f"url: '{url}'"))
    assert load("", shop % ("", f"url: '{url}'")).sites["news"].section(RedisPublish) is not None
    routes = "route: /rm", "route: /rm, prefix: other"
    assert "news.redisPublish.route: /rm is the namespace of 'shop'" in mistake(load, None, shop % routes)
    route = "route: /shop, prefix: other"
    assert "news.redisPublish.route: /shop is the namespace of 'shop'" in mistake(load, None, shop % ("", route))
    own = "shop.redisPublish.route: expected another than the site's own /shop"
    assert own in mistake(load, None, shop % ("route: /shop", "prefix: other"))
    for prefix in ("recado", "recado:x"):
        assert "and not recado" in mistake(load, None, shop % (f"prefix: '{prefix}'", "prefix: other"))
    assert load(None, shop % ("prefix: recados", "prefix: other")).sites["shop"].section(RedisPublish) is not None


def test_every_mistake_is_named_at_once(load: Load) -> None:
    """One run names the mistakes of both files, each in a line of its own, with the key that was probably meant."""
    with pytest.raises(ConfigError) as caught:
        load(
            "production: {prot: 1, io: {pingInterval: x}, device_ttl: -1}",
            "a: {authURL: x, apiKey: 5, chanels: {}}\n"
            "b: {authUrl: 'http://x/', apiKey: k, topics: {history: {sec: 1}}}",
        )
    assert caught.value.mistakes == [
        "config.yml: production.prot: unknown key, did you mean port?",
        "config.yml: production.io.pingInterval: expected a whole number, got text",
        "config.yml: production.device_ttl: expected a whole number >= 0",
        "sites.yml: a.authURL: unknown key, did you mean authUrl?",
        "sites.yml: a.chanels: unknown key, did you mean channels?",
        "sites.yml: b.topics.history.sec: unknown key, did you mean seconds?",
    ]


def test_secrets_from_elsewhere(load: Load, tmp_path: Path) -> None:
    """A value may name an environment variable or a file; numbers too; its content is in no error."""
    (tmp_path / "key").write_text("hidden-in-a-file\n")
    site = "a: {authUrl: 'http://${HOSTNAME}/rooms', apiKey: 'file:key', device_ttl: '${SECONDS}'}"
    read = load(None, site, {"HOSTNAME": "auth", "SECONDS": "60"}).sites["a"]
    assert (read.auth_url, read.api_key, read.device_ttl_seconds) == ("http://auth/rooms", "hidden-in-a-file", 60)
    line = mistake(load, None, site, environ={"HOSTNAME": "auth", "SECONDS": "hidden"})
    assert line == "sites.yml: a.device_ttl: expected a whole number, got text"
    line = mistake(load, None, site, environ={"SECONDS": "60"})
    assert line == "sites.yml: a.authUrl: ${HOSTNAME}: expected an environment variable of this name"


def test_origins_are_as_browsers_send_them(load: Load) -> None:
    """An origin in capitals, or with the port of its scheme, is the one that browsers send."""
    origins = "['HTTPS://www.Example.com:443', 'http://a.b:80', 'https://a.b:8443', 'app://x:443']"
    assert load(None, f"a: {{{SITE}, origins: {origins}}}").sites["a"].origins == (
        "https://www.example.com",
        "http://a.b",
        "https://a.b:8443",
        "app://x:443",
    )


def test_yaml_that_contains_itself(load: Load) -> None:
    """A value that refers to itself is a mistake like any other."""
    assert "contains itself" in mistake(load, None, "shop:\n  apiKey: &a [*a]\n")


def test_every_mistake_is_named(load: Load) -> None:
    """One run names the mistakes of both files, also those that only other values make mistakes."""
    with pytest.raises(ConfigError) as caught:
        load(
            "production: {client_bundle: 3, trusted_proxies: [a, b], cluster: {secret: s}, "
            "mounts: {channels: {ws_port: 82}}}",
            "a: {}",
            environ={"SITE_NAME": "b"},
        )
    assert [line.partition(": expected")[0].partition(" is missing")[0] for line in caught.value.mistakes] == [
        "config.yml: production.mounts.channels.site:",
        "config.yml: production.cluster.url:",
        "config.yml: production.client_bundle",
        "config.yml: production.trusted_proxies",
        "config.yml: production.trusted_proxies",
        "sites.yml: a: authUrl",
        "sites.yml: a: apiKey",
    ]
    with pytest.raises(ConfigError) as caught:
        load("production: {mounts: {channels: a, topics: b}}", "{}")
    assert len(caught.value.mistakes) == 2


def test_the_console(load: Load) -> None:
    """The console is off, or has a port, which the server listens on beside its own; and an operator, whose name and
    password may come from the environment, and show up in no repr."""
    assert (load().console, load().further_ports) == (ConsoleSettings(), {})
    assert load("production: {console: false}").console == ConsoleSettings(is_on=False)
    assert load("production: {console: true}").console == ConsoleSettings()
    assert load("production: {console: {port: 9337}}").further_ports == {9337: "console.port"}
    assert load("production: {port: 9337, console: {port: 9337}}").further_ports == {}
    named = {"RECADO_OPERATOR": "ana", "RECADO_OPERATOR_PASSWORD": "correct horse"}
    for config in (load("", environ=named), load("production: {console: {port: 9337}}", environ=named)):
        assert (config.console.operator, config.console.operator_password) == ("ana", "correct horse")
        assert "horse" not in f"{config!r} {config.console!r}"
    assert not load("production: {console: false}", environ=named).console.is_on
    # A password alone is for the command `recado operator`.
    assert load("", environ={"RECADO_OPERATOR_PASSWORD": "correct horse"}).console.operator is None
