"""Where Redis is and how to log in: the forms of `redis.url`. Opens nothing.

| URL | meaning |
| --- | --- |
| `redis://[user:password@]host[:port][/database]`, `rediss://` with TLS | one Redis (or an address in front of some) |
| `unix://[user:password@]/path[?db=number]` | one Redis on a socket |
| `redis+sentinel://[user:password@]host[:port],.../name[/database]` | the primary that these Sentinels call `name` |
| `redis+cluster://[user:password@]host[:port],...` | the Cluster to which these servers belong |

Options follow a question mark: with TLS `ssl_ca_certs=<file>` and `ssl_cert_reqs=none`; `sentinel_username` and
`sentinel_password` are the Sentinels' own login (the login before the `@` is Redis's).
"""

import ssl
from typing import Any
from urllib.parse import parse_qsl, unquote

from msgspec import Struct, structs
from redis.asyncio.connection import parse_url

from app.errors import ConfigError

_SENTINEL_PORT = 26379
_OPTIONS = ("db", "ssl_ca_certs", "ssl_cert_reqs", "sentinel_username", "sentinel_password")
_EXPECTED = "redis.url: expected a URL with redis://, rediss:// or unix://, or redis+sentinel:// or redis+cluster://"


class Address(Struct, frozen=True):
    """The address of one server, with the login; the repr shows no password."""

    host: str = "127.0.0.1"
    port: int = 6379
    path: str | None = None
    database: int = 0
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def at(self, host: str, port: int) -> "Address":
        """The address of another server with the same login."""
        return structs.replace(self, host=host, port=port, path=None)


class SentinelGroup(Struct, frozen=True):
    """Sentinels, and the name under which they watch a primary and its replicas."""

    sentinels: tuple[Address, ...]
    name: str
    #: The login of the primary, wherever the primary is.
    login: Address


class ClusterSeeds(Struct, frozen=True):
    """Some servers of a Cluster; any one of them names all the others."""

    servers: tuple[Address, ...]


Location = Address | SentinelGroup | ClusterSeeds


def read_redis_url(url: str) -> Location:
    """Reads a URL. Raises ConfigError, whose text names what was expected and shows no secret."""
    scheme, _, rest = url.partition("://")
    base, _, form = scheme.partition("+")
    rest, _, query = rest.partition("?")
    options = _options(query)
    if base == "unix" and not form:
        return _unix_address(rest, options)
    if base not in ("redis", "rediss") or form not in ("", "sentinel", "cluster"):
        raise ConfigError(_EXPECTED)
    authority, _, path = rest.partition("/")
    userinfo, _, hosts = authority.rpartition("@")
    servers = [_server(base, userinfo, host) for host in hosts.split(",")]
    tls = _tls_context(options) if base == "rediss" else None
    servers = [structs.replace(server, tls=tls) for server in servers]
    if form == "cluster":
        if path not in ("", "0"):
            raise ConfigError("redis.url: expected nothing behind the hosts: a Cluster has database 0 alone")
        return ClusterSeeds(tuple(servers))
    if form == "sentinel":
        return _sentinel_group(hosts, servers, path, options)
    if len(servers) > 1:
        raise ConfigError("redis.url: expected one host, or redis+sentinel:// or redis+cluster:// in front of several")
    return structs.replace(servers[0], database=_database(path))


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not options.keys() <= set(_OPTIONS):
        raise ConfigError(f"redis.url: expected no options behind ? but {', '.join(_OPTIONS)}")
    return options


def _unix_address(rest: str, options: dict[str, str]) -> Address:
    login = _parse(f"unix://{rest}")
    if not login.get("path"):
        raise ConfigError("redis.url: expected the path of a socket behind unix://")
    return Address(
        path=login["path"],
        database=_database(options.get("db", "")),
        username=login.get("username"),
        password=login.get("password"),
    )


def _server(base: str, userinfo: str, host: str) -> Address:
    login = _parse(f"{base}://{userinfo}@{host}" if userinfo else f"{base}://{host}")
    return Address(
        host=login.get("host") or "127.0.0.1",
        port=login.get("port") or 6379,
        username=login.get("username"),
        password=login.get("password"),
    )


def _sentinel_group(hosts: str, servers: list[Address], path: str, options: dict[str, str]) -> SentinelGroup:
    name, _, database = path.partition("/")
    if not name:
        raise ConfigError("redis.url: expected the name of the primary behind the Sentinels' hosts, as in /mymaster")
    sentinels = tuple(
        structs.replace(
            server,
            port=server.port if _has_port(host) else _SENTINEL_PORT,
            username=options.get("sentinel_username"),
            password=options.get("sentinel_password"),
        )
        for host, server in zip(hosts.split(","), servers, strict=True)
    )
    return SentinelGroup(sentinels, unquote(name), structs.replace(servers[0], database=_database(database)))


def _has_port(host: str) -> bool:
    return ":" in host.rpartition("]")[2]


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise ConfigError("redis.url: expected the number of a database behind the host, or nothing")
    return int(text or 0)


def _tls_context(options: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    except OSError as error:
        raise ConfigError(f"redis.url: ssl_ca_certs: expected a file of certificates ({error.strerror})") from None
    if options.get("ssl_cert_reqs", "required") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _parse(url: str) -> dict[str, Any]:
    try:
        return dict(parse_url(url))
    except ValueError:
        raise ConfigError(_EXPECTED) from None
