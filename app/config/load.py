"""Reads config.yml, sites.yml and the environment into a `Config`, or names the mistake in one line.

Knows the sources of settings and their precedence. `app.config.keys` has the keys, `app.config.settings` the values.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from app.config.issuers import read_issuers
from app.config.keys import Blocks, Configured, MountSection, SharedKeys, SiteKeys, WebhookSection
from app.config.mistakes import Mistakes
from app.config.presence import read_presence
from app.config.section import AS_WRITTEN, Section, decode_block
from app.config.settings import CANARY_SITE, Config, ConsoleSettings, OidcSettings, Site, WebhookSettings
from app.config.yaml_file import read_yaml_file
from app.errors import ConfigError

# Environment variable -> its key in the environment's block of config.yml.
_SERVER_VARIABLES = {
    "HOST": "host",
    "PORT": "port",
    "DEVICE_TTL": "device_ttl",
    "REDIS_URL": "redis.url",
    "DATABASE_URL": "database_url",
    "RECADO_DATA_DIR": "data_dir",
    "RECADO_CLIENT_BUNDLE": "client_bundle",
    "RECADO_LOG_LEVEL": "log_level",
    "RECADO_LOG_FORMAT": "log_format",
    "RECADO_WORKERS": "workers",
    "RECADO_NODE_URL": "cluster.url",
    "RECADO_CLUSTER_SECRET": "cluster.secret",
    "RECADO_TLS_CERT": "tls.cert",
    "RECADO_TLS_KEY": "tls.key",
    "RECADO_TLS_CA": "tls.ca",
    "RECADO_TLS_VERIFY_CLIENTS": "tls.verify_clients",
    "RECADO_TLS_REDIRECT_PORT": "tls.redirect_port",
    "RECADO_TRUSTED_PROXIES": "trusted_proxies",
    "RECADO_CANARY": "canary",
    "RECADO_OPERATOR": "console.operator",
    "RECADO_OPERATOR_PASSWORD": "console.operator_password",
}
# Environment variable -> its key in the block of the one site that SITE_NAME names.
_SITE_VARIABLES = {
    "AUTH_URL": "authUrl",
    "AUTH_SCHEME": "authScheme",
    "API_KEY": "apiKey",
    "USER_ROOM_PREFIX": "userRoomPrefix",
    "UPDATE_USER_URL": "updateUserUrl",
    "PUBLIC_CHANNEL": "publicChannel",
}
# The addresses of a PaaS's routers, of a container network, and of a proxy on this machine.
_PRIVATE_NETWORKS = (
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
    *("::1/128", "fc00::/7", "fe80::/10"),
)
_CLIENT_BUNDLES = (1, 2, 4)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_FORBIDDEN_IN_SITE_NAME = re.compile(r"[{},?#\x00-\x1f\x7f-\x9f\u2028\u2029]")
_WEBHOOK_KEYS = {"url": "url", "secret": "secrets", "events": "events"}
#: 24 to 64 bytes in Base64, as Standard Webhooks has it.
_HOOK_SECRET = re.compile(r"whsec_(?=.{32,88}\Z)([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")
#: Each of them signs every request.
_MOST_SECRETS = 5
#: The valid keys of one site.
MOST_KEYS = 2
_Settings = TypeVar("_Settings", bound=Struct)
_Block = TypeVar("_Block", bound=Section)


def load_config(
    config_path: str | Path | None,
    sites_path: str | Path | None,
    environ: Mapping[str, str],
    protocols: Sequence[Configured],
) -> Config:
    """The settings of this process, with these protocols. A path given here, or in RECADO_CONFIG or RECADO_SITES, must
    exist.

    An empty environment variable counts as not set. Raises ConfigError: for each mistake one line that names the file
    or the variable, the key and the expected value.
    """
    variables = {name: value for name, value in environ.items() if value != ""}
    blocks = Blocks(protocols)
    mistakes = Mistakes()
    config, sites = Config(), dict[str, Site]()
    source = _ServerSource.of(config_path, variables)
    with mistakes.noted():
        config = _load_server(source, blocks)
    with mistakes.noted():
        sites = _load_sites(sites_path or variables.get("RECADO_SITES"), config, variables, blocks)
    # The checks below need the values that have just been read.
    mistakes.raise_any()
    config = msgspec.structs.replace(config, sites=sites)
    _check_mounts(config, protocols, source, mistakes)
    for protocol in protocols:
        with mistakes.noted():
            protocol.check(config)
    mistakes.raise_any()
    return config


def read_site(name: str, raw: object, config: Config, types: Blocks, place: str) -> Site:
    """One site from its block, by the rules of sites.yml, with the defaults of `config`. The block's text stands for
    itself: it names no file and no environment variable. Raises ConfigError with every mistake."""
    check_site_name(name, place)
    block = decode_block(raw, types.site, lambda key: f"{place}.{key}" if key else place, AS_WRITTEN)
    return _site(name, config, block, types, place)


def check_site_name(name: str, place: str) -> None:
    """Raises ConfigError with the place when a namespace, a Redis hash tag or a query cannot carry the name, and
    for the name of the hidden site."""
    if not name or name == "/" or name != name.strip() or _FORBIDDEN_IN_SITE_NAME.search(name):
        raise ConfigError(
            f"{place}: site name {name!r}: expected text other than '/', without whitespace at the ends, "
            "control characters and any of { } , ? #"
        )
    if name == CANARY_SITE:
        raise ConfigError(f"{place}: site name {name!r}: expected another one, this is the server's own")


class _ServerSource(Struct, frozen=True):
    """The places of the server's settings. Lives while they are read."""

    file: Path
    must_exist: bool
    environment: str
    variables: Mapping[str, str]

    @classmethod
    def of(cls, path: str | Path | None, variables: Mapping[str, str]) -> "_ServerSource":
        """The file at the path, or the one that the environment names, or config.yml if there is one."""
        named = path or variables.get("RECADO_CONFIG")
        environment = variables.get("APP_ENV") or variables.get("NODE_ENV") or "production"
        return cls(Path(named or "config.yml"), named is not None, environment, variables)

    def place(self, key: str) -> str:
        """The place of a key's value, for the line of a mistake."""
        variable = next((name for name, named in _SERVER_VARIABLES.items() if named == key), None)
        is_given = variable is not None and variable in self.variables
        return f"environment variable {variable}" if is_given else _place(self.file, self.environment, key)


def _load_server(source: _ServerSource, types: Blocks) -> Config:
    # Check every block: a mistake in another environment's shows before the day on which that one is used.
    mistakes = Mistakes()
    blocks = _read_blocks(source.file, types.environment, source.variables, mistakes, must_exist=source.must_exist)
    variables: Mapping[str, Any] = {}
    with mistakes.noted():
        variables = _read_variables(source.variables, _SERVER_VARIABLES, types.environment).given()
    mistakes.raise_any()
    environment = source.environment
    if blocks and environment not in blocks:
        found = ", ".join(blocks)
        raise ConfigError(f"{source.file}: expected a block for the environment {environment!r}, found {found}")
    config = Config(environment=environment)
    if blocks:
        given = blocks[environment].given()
        if "tracing" in given and given["tracing"].lacks_endpoint:
            mistakes.add(f"{source.place('tracing.endpoint')}: is missing")
        # In the settings `mounts` is a mapping, and `console` is never a word, but a section.
        mounts: Section | None = given.pop("mounts", None)
        if isinstance(is_on := given.get("console"), bool):
            given["console"] = ConsoleSettings(is_on=is_on)
        config = _overlay(config, given)
        with mistakes.noted():
            config = _overlay(config, _mounts(mounts.given(), source.place("mounts")) if mounts else {})
    config = _overlay(config, variables)
    for check in (_check_cluster, _check_tls):
        with mistakes.noted():
            check(config, source)
    if config.console.operator is not None and config.console.operator_password is None:
        # A password alone is for `recado operator`.
        mistakes.add(f"{source.place('console.operator_password')}: is missing, expected it beside console.operator")
    with mistakes.noted():
        _check_oidc(config.console.oidc, source)
    errors_to = config.console.errors_to
    if bool(errors_to.site) != bool(errors_to.room):
        missing = "room" if errors_to.site else "site"
        mistakes.add(f"{source.place(f'console.errors_to.{missing}')}: is missing, expected site and room together")
    if config.client_bundle not in _CLIENT_BUNDLES:
        mistakes.add(f"{source.place('client_bundle')}: expected 1, 2 or 4, got {config.client_bundle}")
    with mistakes.noted_at(source.place("trusted_proxies")):
        config = msgspec.structs.replace(config, trusted_proxies=_networks(config.trusted_proxies))
    mistakes.raise_any()
    return config


def _check_cluster(config: Config, source: _ServerSource) -> None:
    given = {key: getattr(config.cluster, key) is not None for key in ("url", "secret")}
    if len(set(given.values())) > 1:
        missing = next(key for key, is_given in given.items() if not is_given)
        raise ConfigError(f"{source.place(f'cluster.{missing}')}: is missing, expected url and secret together")


def _check_oidc(oidc: OidcSettings, source: _ServerSource) -> None:
    if oidc.issuer is None:
        if oidc != OidcSettings():
            raise ConfigError(f"{source.place('console.oidc.issuer')}: is missing")
        return
    for key in ("client_id", "public_url"):
        if not getattr(oidc, key):
            raise ConfigError(f"{source.place(f'console.oidc.{key}')}: is missing, expected it beside issuer")
    if oidc.default_role is None and not (oidc.role_claim and oidc.roles):
        place = source.place("console.oidc.roles")
        raise ConfigError(f"{place}: is missing, expected it with role_claim, or a default_role")
    if "openid" not in oidc.scopes:
        raise ConfigError(f"{source.place('console.oidc.scopes')}: expected openid among them")


#: A key of `tls` -> the key without which it has no meaning.
_TLS_NEEDS = {"cert": "key", "key": "cert", "ca": "cert", "verify_clients": "ca", "redirect_port": "cert"}


def _check_tls(config: Config, source: _ServerSource) -> None:
    for key, needed in _TLS_NEEDS.items():
        if getattr(config.tls, key) and not getattr(config.tls, needed):
            raise ConfigError(f"{source.place(f'tls.{needed}')}: is missing, expected it beside tls.{key}")
    if config.tls.redirect_port in (config.port, *config.further_ports):
        raise ConfigError(f"{source.place('tls.redirect_port')}: expected a port of its own")


def _networks(proxies: tuple[str, ...] | str) -> tuple[str, ...]:
    """The named networks. `private` stands for the networks that no packet of the internet comes from."""
    names = proxies.split(",") if isinstance(proxies, str) else proxies
    networks: list[str] = []
    mistakes = Mistakes()
    for name in filter(None, (name.strip() for name in names)):
        try:
            networks += _PRIVATE_NETWORKS if name == "private" else [str(ip_network(name, strict=False))]
        except ValueError:
            mistakes.add(f"expected addresses, networks such as 10.0.0.0/8, or private, got {name!r}")
    mistakes.raise_any()
    return tuple(networks)


def _mounts(given: dict[str, str | MountSection], place: str) -> dict[str, Any]:
    """The settings of `mounts`. Raises ConfigError with the place of each mistake."""
    mistakes = Mistakes()
    sites: dict[str, str] = {}
    ports: dict[str, tuple[int, ...]] = {}
    for protocol, mount in given.items():
        if isinstance(mount, str):
            sites[protocol] = mount
        elif mount.site is not None:
            sites[protocol] = mount.site
            ports[protocol] = tuple(filter(None, (mount.http_port, mount.ws_port)))
        elif mount.given():
            mistakes.add(f"{place}.{protocol}.site: is missing, expected the name of a site")
    mistakes.raise_any()
    return {"mounts": sites, "mount_ports": ports}


def _check_mounts(config: Config, protocols: Sequence[Configured], source: _ServerSource, mistakes: Mistakes) -> None:
    sections = {protocol.name: protocol.section for protocol in protocols}
    for protocol, name in config.mounts.items():
        section, site = sections[protocol], config.sites.get(name)
        if site is None or (section is not None and site.section(section.settings) is None):
            place = source.place(f"mounts.{protocol}")
            mistakes.add(f"{place}: expected a site of sites.yml that has `{protocol}:`, got {name!r}")


def _load_sites(
    path: str | Path | None, config: Config, variables: Mapping[str, str], types: Blocks
) -> dict[str, Site]:
    file = Path(path or "sites.yml")
    mistakes = Mistakes()
    blocks = _read_blocks(file, types.site, variables, mistakes, must_exist=path is not None)
    sites: dict[str, Site] = {}
    for name, block in blocks.items():
        with mistakes.noted():
            check_site_name(name, str(file))
            sites[name] = _site(name, config, block, types, f"{file}: {name}")
    mistakes.raise_any()
    single = variables.get("SITE_NAME")
    if single is not None:
        check_site_name(single, "environment variable SITE_NAME")
        of_sections = {name: f"{one.key}.{key}" for one in types.sections for name, key in one.variables}
        block = _read_variables(variables, _SITE_VARIABLES | of_sections, types.site)
        known = sites.get(single)
        place = f"SITE_NAME={single}"
        sites[single] = _changed(known, block, types, place) if known else _site(single, config, block, types, place)
    return sites


def _changed(site: Site, block: SiteKeys, types: Blocks, place: str) -> Site:
    """A site of the file with the values of the environment. Raises ConfigError."""
    given = block.given() | _keys_of(block, place)
    sections = dict(site.sections)
    for section in types.sections:
        if (keys := given.pop(section.key, None)) is not None:
            if section.settings not in sections:
                raise ConfigError(
                    f"{place}: `{section.key}:` is missing in sites.yml, expected it beside its variables"
                )
            sections[section.settings] = _overlay(sections[section.settings], keys.given())
    return _overlay(site, given | {"sections": sections})


def _read_blocks(
    file: Path, block_type: type[_Block], environ: Mapping[str, str], mistakes: Mistakes, *, must_exist: bool
) -> dict[str, _Block]:
    """The blocks without a mistake, by name; the mistakes of the others are noted."""
    blocks: dict[str, _Block] = {}
    for name, raw in read_yaml_file(file, must_exist=must_exist).items():
        with mistakes.noted():
            blocks[name] = decode_block(raw, block_type, partial(_place, file, name), environ)
    return blocks


def _place(file: Path, name: str, key: str) -> str:
    return f"{file}: {name}.{key}" if key else f"{file}: {name}"


def _read_variables(variables: Mapping[str, str], keys: Mapping[str, str], block_type: type[_Block]) -> _Block:
    raw: dict[str, Any] = {}
    for variable, key in keys.items():
        if variable in variables:
            section, _, name = key.rpartition(".")
            (raw.setdefault(section, {}) if section else raw)[name] = variables[variable]
    variable_of = {key: variable for variable, key in keys.items()}
    return decode_block(raw, block_type, lambda key: f"environment variable {variable_of[key]}")


def _site(name: str, config: Config, block: SiteKeys, types: Blocks, place: str) -> Site:
    given = block.given()
    mistakes = Mistakes()
    sections = {section: given.pop(section.key) for section in types.sections if section.key in given}
    if block.auth_url is None and not block.jwt and not any(section.is_sufficient for section in sections):
        mistakes.add(
            f"{place}: authUrl is missing, expected a URL that begins with http:// or https://, `jwt`, "
            "or a section of a protocol that needs none (an empty one is written `redisPublish: {}`)"
        )
    with mistakes.noted():
        given |= _keys_of(block, place)
    with mistakes.noted():
        given |= {"jwt": read_issuers(block.jwt, f"{place}.jwt")} if block.jwt else {}
    given |= read_presence(block.presence)
    if block.api_key is None:
        mistakes.add(f"{place}: apiKey is missing, expected the text that /send must present")
    mistakes.raise_any()
    inherited = {limit: getattr(config, limit) for limit in SharedKeys.__struct_fields__}
    turned_on = {section.settings: _overlay(section.settings(), keys.given()) for section, keys in sections.items()}
    if block.origins is not None:
        given["origins"] = tuple(map(_as_browsers_send, block.origins))
    if block.webhook is not None:
        given["webhook"] = _webhook(block.webhook, f"{place}.webhook")
    for section in sections:
        given = dict(section.implied) | given
    return _overlay(Site(name=name, api_key=given["api_key"], **inherited, sections=turned_on), given)


def _keys_of(block: SiteKeys, place: str) -> dict[str, Any]:
    """The settings of `apiKey`, the newest key first; none where it is not given. Raises ConfigError."""
    if block.api_key is None:
        return {}
    keys = (block.api_key,) if isinstance(block.api_key, str) else block.api_key
    if not 1 <= len(keys) <= MOST_KEYS or len(set(keys)) < len(keys):
        raise ConfigError(f"{place}.apiKey: expected one key, or a list of two different ones")
    return {"api_key": keys[0], "further_keys": keys[1:]}


def _webhook(block: WebhookSection, place: str) -> WebhookSettings:
    given = block.given()
    if missing := [key for key, name in _WEBHOOK_KEYS.items() if not given.get(name)]:
        raise ConfigError(f"{place}.{missing[0]}: is missing, expected url, secret and events together")
    secrets = (block.secrets,) if isinstance(block.secrets, str) else given["secrets"]
    if len(secrets) > _MOST_SECRETS:
        raise ConfigError(f"{place}.secret: expected at most {_MOST_SECRETS} secrets")
    if not all(map(_HOOK_SECRET.match, secrets)):
        raise ConfigError(f"{place}.secret: expected whsec_ and 24 to 64 random bytes in Base64")
    given["secrets"] = tuple(secrets)
    return WebhookSettings(**given)


def _as_browsers_send(origin: str) -> str:
    """The origin in the form of the header: in lower case, without its scheme's own port (RFC 6454, 6.2)."""
    scheme, _, host = origin.lower().partition("://")
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, 'no port'))}"


def _overlay(settings: _Settings, given: Mapping[str, Any]) -> _Settings:
    """The settings with the given values in place of their own."""
    changes: dict[str, Any] = {}
    for name, value in given.items():
        if not isinstance(value, Section):
            changes[name] = value
        elif hasattr(settings, name):
            changes[name] = _overlay(getattr(settings, name), value.given())
        else:
            changes |= value.given()
    return msgspec.structs.replace(settings, **changes)
