"""The operations of sites: what operators see and do on the page of sites, and over the API.

An operator of some sites sees these alone. Sites of sites.yml are shown, and changed in the file.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from app.catalog.catalog import Catalog
from app.catalog.redis_copy import RedisCopy
from app.catalog.site_facts import SiteOnNode, key_uses, on_nodes
from app.catalog.site_rules import MAX_BLOCK_BYTES, SiteRules
from app.catalog.stored_site import CatalogRefused, StoredSite, key_name
from app.clock import rfc3339
from app.config.section import SectionSpec
from app.config.settings import Config, Site, SiteLimits
from app.config.yaml_file import read_yaml_text, write_yaml
from app.errors import ConfigError, RequestRefused
from app.protocols.operations import Call, Inputs, ListInputs, Operation, Role, Words
from app.redis.client import Commands
from app.store.keys import prefix

#: The answers to refused changes.
_STATUS = {"not_found": 404, "exists": 409, "changed": 409, "leaving": 409, "in_file": 409, "key": 409}
#: The longest token and meta that authUrl is tried with.
_Credential = Annotated[str, Meta(max_length=8_192)]
#: A block as text (YAML or JSON) or as a JSON object.
_Block = Annotated[str, Meta(min_length=1, max_length=MAX_BLOCK_BYTES)] | dict[str, Any]


#: Asks a site's authUrl for a token and a meta, with a time-out in seconds; see `app/backends/auth_trial.py`.
AskAuth = Callable[[Site, str | None, str | None, float], Awaitable[Any]]
#: The state of a site's webhook.
HookState = Callable[[Site], Awaitable[dict[str, Any]]]


class SiteBook(Struct, frozen=True):
    """The parts that the operations use. Lives as long as the node."""

    config: Config
    redis: Commands
    catalog: Catalog
    copy: RedisCopy
    rules: SiteRules
    sections: list[SectionSpec]
    hook_state: HookState
    ask_auth: AskAuth


class SiteListInputs(ListInputs, frozen=True, kw_only=True):
    """Which sites to list."""

    #: A part of the name.
    name: Words | None = None
    #: Where the site's settings are.
    place: Literal["stored", "file"] | None = None
    #: Of the names.
    order: Literal["a-z", "z-a"] = "a-z"


class NewSite(Inputs, frozen=True, kw_only=True):
    """A new site."""

    name: Words
    #: As in sites.yml behind the name; without an apiKey the site gets one.
    block: _Block


class SiteChange(Inputs, frozen=True, kw_only=True):
    """Another block of a site."""

    #: Without an apiKey the keys stay, and *** stands for a secret that stays.
    block: _Block
    #: Only while this is still the version of the site.
    version: int | None = None


class KeyPath(Inputs, frozen=True, kw_only=True):
    """The name of a key."""

    key: Words


class AuthQuestion(Inputs, frozen=True, kw_only=True):
    """The credentials that a client would present."""

    token: _Credential | None = None
    meta: _Credential | None = None


class _SiteActions:
    """The operations. Lives as long as the node."""

    def __init__(self, book: SiteBook) -> None:
        self._book = book

    async def list(self, call: Call) -> dict[str, Any]:
        given: SiteListInputs = call.given
        is_down = given.order == "z-a"
        wanted = (name for name, site in self._book.config.sites.items() if self._is_wanted(call, site))
        names = sorted(wanted, reverse=is_down)
        if (place := given.cursor) is not None:
            names = [name for name in names if (name < place if is_down else name > place)]
        following = names[: given.limit + 1]
        shown = following[: given.limit]
        sites = [site for name in shown if (site := self._book.config.sites.get(name)) is not None]
        items = await asyncio.gather(*map(self._row, sites))
        return {"items": items, "cursor": shown[-1] if len(following) > given.limit else None}

    async def show(self, call: Call) -> dict[str, Any]:
        site, redis = call.known_site, self._book.redis
        stored = await self._stored(site)
        uses, nodes, used = await asyncio.gather(
            key_uses(redis, site.name), on_nodes(redis, site.name), self._stored_messages(site)
        )
        connections = sum(node.connections for node in nodes.values())
        return {
            **self._facts(site, nodes.values()),
            "keys": [_key_row(key, stored, uses) for key in site.keys],
            "limits": _limit_rows(site.limits, {"connections": connections, **used}),
            "auth": [_auth_row(name, node) for name, node in sorted(nodes.items())],
            "has_auth": site.auth_url is not None,
            "webhook": await self._book.hook_state(site) if site.webhook.url is not None else None,
            **self._change_facts(call, stored),
        }

    async def add(self, call: Call) -> dict[str, Any]:
        block = _block(call.given.block)
        site = await _done(self._book.catalog.add(call.given.name, block))
        return {"ok": True, "name": site.name, **({} if "apiKey" in block else {"apiKey": site.keys[0]})}

    async def change(self, call: Call) -> dict[str, Any]:
        given: SiteChange = call.given
        site = await _done(self._book.catalog.change(self._of_sql(call), _block(given.block), given.version))
        return {"ok": True, "version": site.version}

    async def remove(self, call: Call) -> dict[str, Any]:
        await _done(self._book.catalog.remove(self._of_sql(call)))
        return {"ok": True}

    async def add_key(self, call: Call) -> dict[str, Any]:
        _, key = await _done(self._book.catalog.add_key(self._of_sql(call)))
        return {"ok": True, "apiKey": key}

    async def show_keys(self, call: Call) -> dict[str, Any]:
        return {"ok": True, **{f"key {key_name(key)}": key for key in call.known_site.keys}}

    async def remove_key(self, call: Call) -> dict[str, Any]:
        await _done(self._book.catalog.remove_key(self._of_sql(call), call.given.key))
        return {"ok": True}

    async def try_auth(self, call: Call) -> dict[str, Any]:
        site, given = call.known_site, call.given
        if site.auth_url is None:
            raise RequestRefused("This site has no authUrl.", "no_auth_url", 409)
        trial = await self._book.ask_auth(site, given.token, given.meta, self._book.config.auth_timeout_seconds)
        return {"ok": trial.rooms is not None, "rooms": trial.rooms, "refusal": trial.refusal or None, "ms": trial.ms}

    async def reload(self, call: Call) -> dict[str, Any]:
        await self._book.copy.ask_reload()
        return {"ok": True}

    def _is_wanted(self, call: Call, site: Site) -> bool:
        given: SiteListInputs = call.given
        if site.is_hidden or not call.caller.knows(site.name):
            return False
        is_of_place = given.place is None or site.is_stored is (given.place == "stored")
        return is_of_place and (given.name is None or given.name.casefold() in site.name.casefold())

    async def _row(self, site: Site) -> dict[str, Any]:
        return self._facts(site, (await on_nodes(self._book.redis, site.name)).values())

    def _facts(self, site: Site, nodes: Iterable[SiteOnNode]) -> dict[str, Any]:
        nodes = list(nodes)
        breakers = {node.breaker for node in nodes} - {"closed"}
        return {
            "name": site.name,
            "place": "stored" if site.is_stored else "file",
            "protocols": [
                *(["rooms"] if site.has_rooms else []),
                *(one.key for one in self._book.sections if site.section(one.settings) is not None),
            ],
            "connections": sum(node.connections for node in nodes),
            "most_connections": site.limits.connections or None,
            "auth_state": min(breakers, default="closed") if site.auth_url is not None else None,
            "has_webhook": site.webhook.url is not None,
            "keys_count": len(site.keys),
        }

    async def _stored(self, site: Site) -> StoredSite | None:
        if not site.is_stored:
            return None
        return next(iter(await self._book.copy.read([site.name])), None)

    def _change_facts(self, call: Call, stored: StoredSite | None) -> dict[str, Any]:
        """The block to be changed, for those who may change it."""
        if stored is None:
            return {"block": None, "version": None, "changed_at": None}
        block = write_yaml(self._book.rules.masked(stored.block)) if call.caller.role >= Role.ADMIN else None
        return {"block": block, "version": stored.version, "changed_at": rfc3339(stored.changed_at)}

    async def _stored_messages(self, site: Site) -> dict[str, int]:
        messages, size = await self._book.redis.command("HMGET", prefix(site.name) + "stored", "messages", "bytes")
        return {"stored_messages": int(messages or 0), "stored_bytes": int(size or 0)}

    def _of_sql(self, call: Call) -> str:
        """The name of a site that may be changed here."""
        if not call.known_site.is_stored:
            raise RequestRefused("This site is in sites.yml: change it there.", "in_file", 409)
        return call.known_site.name


def site_operations(book: SiteBook) -> list[Operation]:
    """Everything about sites."""
    do, of_site, admin = _SiteActions(book), "/sites/{site}", Role.ADMIN
    block = frozenset(["block"])

    def act(name: str, summary: str, method: str, rest: str, role: Role, *more: Any, **facts: Any) -> Operation:
        return Operation(f"sites.{name}", summary, method, of_site + rest, role, getattr(do, name), *more, **facts)

    return [
        Operation("sites.list", "List the sites", "GET", "/sites", Role.VIEWER, do.list, SiteListInputs),
        act("show", "Show a site", "GET", "", Role.VIEWER),
        Operation("sites.add", "Add a site", "POST", "/sites", admin, do.add, NewSite, secrets=block, tells=True),
        act("change", "Change a site", "PUT", "", admin, SiteChange, secrets=block),
        act("remove", "Remove a site", "DELETE", "", admin, hurts=True),
        act("add_key", "Make a new API key", "POST", "/keys", admin, hurts=True, tells=True),
        act("show_keys", "Show the API keys", "POST", "/keys/show", admin, hurts=True, tells=True),
        act("remove_key", "Remove an API key", "DELETE", "/keys/{key}", admin, KeyPath, hurts=True),
        act(
            "try_auth",
            "Try authUrl",
            "POST",
            "/auth/try",
            Role.OPERATOR,
            AuthQuestion,
            secrets=frozenset(["token", "meta"]),
            tells=True,
        ),
        Operation("sites.reload", "Read sites.yml again", "POST", "/reload", admin, do.reload),
    ]


async def _done(change: Awaitable[Any]) -> Any:
    """The answer of a change. Raises RequestRefused for one that is refused, with every mistake of a block."""
    try:
        return await change
    except CatalogRefused as refused:
        raise RequestRefused(str(refused), refused.code, _STATUS.get(refused.code, 400)) from None
    except ConfigError as error:
        raise RequestRefused("; ".join(error.mistakes), "bad_block") from None


def _block(given: str | dict[str, Any]) -> dict[str, Any]:
    try:
        return read_yaml_text(given, "block") if isinstance(given, str) else given
    except ConfigError as error:
        raise RequestRefused("; ".join(error.mistakes), "bad_block") from None


def _key_row(key: str, stored: StoredSite | None, uses: dict[str, int]) -> dict[str, Any]:
    name = key_name(key)
    made = stored.keys_made.get(name) if stored is not None else None
    used = uses.get(name)
    return {"name": name, "made_at": made and rfc3339(made), "used_at": used and rfc3339(used)}


def _limit_rows(limits: SiteLimits, used: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {"name": name, "most": getattr(limits, name) or None, "used": used.get(name)}
        for name in SiteLimits.__struct_fields__
    ]


def _auth_row(node: str, fact: SiteOnNode) -> dict[str, Any]:
    return {
        "node": node,
        "at": rfc3339(fact.at),
        "connections": fact.connections,
        "breaker": fact.breaker,
        "in_flight": fact.in_flight,
        "waiting": fact.waiting,
        "asked": fact.asked,
        "results": fact.results,
        "ms": fact.ms,
    }
