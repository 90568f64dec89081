"""The changes of stored sites: checked as sites.yml is, one after the other, none over another one unseen."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec import structs

from app.catalog.catalog import Catalog, readable_sites
from app.catalog.redis_copy import RedisCopy
from app.catalog.site_rules import MAX_BLOCK_BYTES, SiteRules
from app.catalog.sql_sites import SqlSites
from app.catalog.stored_site import CatalogRefused, StoredSite, key_name
from app.config.settings import Config
from app.config.yaml_file import read_yaml_text, write_yaml
from app.errors import ConfigError
from app.journal.database import JournalUnavailable
from app.protocols.listed import PROTOCOLS
from tests.support.store import make_site

BLOCK = {"authUrl": "http://127.0.0.1/rooms", "apiKey": "a-key-of-the-site", "userRoomPrefix": "user_"}


@pytest.fixture
def rules() -> SiteRules:
    """Beside a site of sites.yml."""
    return SiteRules(Config(sites={"filed": make_site("filed")}), PROTOCOLS)


@pytest.fixture
def catalog(rows: SqlSites, copy: RedisCopy, rules: SiteRules) -> Catalog:
    """The stored sites; none yet."""
    return Catalog(rows, copy, rules)


async def refusal_of(change: Any) -> str:
    """The code of a refused change."""
    with pytest.raises(CatalogRefused) as refused:
        await change
    return refused.value.code


async def test_a_change_is_in_sql_and_in_the_copy(catalog: Catalog, copy: RedisCopy) -> None:
    """Each change has a higher version than the last one of any site, and the copy has what SQL has."""
    first, second = await catalog.add("first", BLOCK), await catalog.add("second", BLOCK)
    changed = await catalog.change("first", {"topics": {}})
    assert first.version < second.version < changed.version
    assert changed.block == {"apiKey": BLOCK["apiKey"], "topics": {}}
    assert (changed.created_at, changed.keys_made) == (first.created_at, first.keys_made)
    assert await catalog.list_sites() == [changed, second]
    assert (await copy.marks()).version == changed.version
    assert await copy.read(["first", "second", "third"]) == [changed, second]


async def test_refused_changes(catalog: Catalog) -> None:
    """A site of sites.yml, one that exists, one that does not, and one that is being removed are told apart."""
    await catalog.add("shop", BLOCK)
    assert await refusal_of(catalog.add("filed", BLOCK)) == "in_file"
    assert await refusal_of(catalog.add("shop", BLOCK)) == "exists"
    assert await refusal_of(catalog.change("other", BLOCK)) == "not_found"
    assert await refusal_of(catalog.remove("other")) == "not_found"
    await catalog.remove("shop")
    assert await refusal_of(catalog.add("shop", BLOCK)) == "leaving"
    assert await refusal_of(catalog.change("shop", BLOCK)) == "leaving"
    assert await refusal_of(catalog.add_key("shop")) == "leaving"
    assert [site.state for site in await catalog.list_sites()] == ["leaving"]


@pytest.mark.parametrize(
    ("name", "block", "line"),
    [
        ("a b?", BLOCK, "name: site name 'a b?': expected text other than '/'"),
        ("~canary", BLOCK, "name: site name '~canary': expected another one, this is the server's own"),
        ("shop", {**BLOCK, "authurl": "x"}, "shop.authurl: unknown key, did you mean authUrl?"),
        ("shop", {**BLOCK, "device_ttl": "5"}, "shop.device_ttl: expected a whole number, got text"),
        ("shop", {"apiKey": "k"}, "shop: authUrl is missing, expected a URL"),
        ("shop", {**BLOCK, "apiKey": []}, "shop.apiKey: expected one key, or a list of two different ones"),
        ("shop", {**BLOCK, "topics": {"jwt_public_key": "none"}}, "shop.topics.jwt_public_key: expected a key in PEM"),
        ("shop", {**BLOCK, "binds": {"x" * MAX_BLOCK_BYTES: "r"}}, "shop: expected at most 65536 bytes as JSON"),
    ],
)
async def test_mistakes(catalog: Catalog, name: str, block: dict[str, Any], line: str) -> None:
    """A block with a mistake is refused in the words of sites.yml, and nothing changes."""
    with pytest.raises(ConfigError) as error:
        await catalog.add(name, block)
    assert error.value.mistakes[0].startswith(line)
    assert await catalog.list_sites() == []


async def test_sites_that_do_not_fit_together(catalog: Catalog) -> None:
    """A site that would take the PUBLISHes of another one is refused."""
    await catalog.add("one", {"apiKey": "k", "redisPublish": {"prefix": "rm"}})
    with pytest.raises(ConfigError, match="expected another than that of 'one' on the same Redis"):
        await catalog.add("two", {"apiKey": "k", "redisPublish": {"prefix": "rm"}})
    await catalog.add("two", {"apiKey": "k", "redisPublish": {"prefix": "other"}})


async def test_text_stands_for_itself(catalog: Catalog, rules: SiteRules) -> None:
    """No reference of a stored block is read from a file or a variable of the server."""
    block = {**BLOCK, "apiKey": "file:/etc/passwd", "authScheme": "${HOME}"}
    stored = await catalog.add("shop", block)
    site = rules.read("shop", stored.block)
    assert (site.api_key, site.auth_scheme, site.is_stored) == ("file:/etc/passwd", "${HOME}", True)


async def test_keys(catalog: Catalog, rules: SiteRules) -> None:
    """A site has one key or two; the newest is the first, and the last one stays."""
    assert len((await catalog.add("made", {"topics": {}})).keys[0]) == 43
    first = (await catalog.add("shop", BLOCK)).keys[0]
    stored, second = await catalog.add_key("shop")
    assert stored.keys == [second, first]
    assert stored.keys_made.keys() == {key_name(first), key_name(second)}
    assert rules.read("shop", stored.block).keys == (second, first)
    assert await refusal_of(catalog.add_key("shop")) == "key"
    assert await refusal_of(catalog.remove_key("shop", "0" * 12)) == "key"
    stored = await catalog.remove_key("shop", key_name(first))
    assert (stored.keys, set(stored.keys_made)) == ([second], {key_name(second)})
    assert await refusal_of(catalog.remove_key("shop", key_name(second))) == "key"
    # A change without a key keeps them.
    assert (await catalog.change("shop", {"topics": {}})).keys == [second]


async def test_nothing_is_written_over_unseen(catalog: Catalog) -> None:
    """A change of a version that is not the newest is refused; of changes at the same time each is there or refused."""
    site = await catalog.add("shop", BLOCK)
    await catalog.change("shop", {**BLOCK, "device_ttl": 1})
    assert await refusal_of(catalog.change("shop", {**BLOCK, "device_ttl": 2}, site.version)) == "changed"
    changes = [catalog.change("shop", {**BLOCK, "device_ttl": number}) for number in range(3, 7)]
    outcomes = await asyncio.gather(*changes, return_exceptions=True)
    done = [outcome for outcome in outcomes if isinstance(outcome, StoredSite)]
    refused = [outcome.code for outcome in outcomes if isinstance(outcome, CatalogRefused)]
    assert len(done) + len(refused) == 4
    assert done
    assert set(refused) <= {"changed"}
    assert len({site.version for site in done}) == len(done)
    assert (await catalog.show("shop")).version == max(site.version for site in done)


async def test_an_older_row_changes_nothing(catalog: Catalog, copy: RedisCopy) -> None:
    """The copy keeps the newest row of a site, in whatever order rows arrive."""
    old = await catalog.add("shop", BLOCK)
    new = await catalog.change("shop", {**BLOCK, "device_ttl": 1})
    assert await copy.put(old, 0)
    assert await copy.read(["shop"]) == [new]
    assert await copy.put(structs.replace(new, state="gone", block={}, version=new.version + 1), new.version)
    assert await copy.versions() == {}
    assert (await copy.marks()).version == new.version + 1


async def test_a_change_behind_one_that_was_not_told(catalog: Catalog, copy: RedisCopy, rows: SqlSites) -> None:
    """A change tells of the earlier ones too that Redis did not hear of, as long as they are in SQL."""
    await catalog.add("shop", BLOCK)
    await catalog.add("blog", {**BLOCK, "apiKey": "another-key-0123456789"})
    missed, _ = await rows.change("shop", _later)
    later = await catalog.change("blog", {**BLOCK, "apiKey": "another-key-0123456789", "device_ttl": 2})
    assert await copy.read(["shop", "blog"]) == [missed, later]
    assert (await copy.marks()).version == later.version


async def test_a_copy_that_lacks_a_change_says_so(catalog: Catalog, copy: RedisCopy, rows: SqlSites) -> None:
    """A row behind one that the copy lacks does not make the copy newer: a node finds that SQL is newer."""
    site = await catalog.add("shop", BLOCK)
    missed, _ = await rows.change("shop", _later)
    other = structs.replace(site, name="blog", version=missed.version + 1)
    assert not await copy.put(other, missed.version)
    assert await copy.read(["shop", "blog"]) == [site, other]
    assert (await copy.marks()).version == site.version


def _later(site: StoredSite | None, version: int) -> StoredSite:
    assert site is not None
    return structs.replace(site, version=version, block={**site.block, "device_ttl": 7})


async def test_sql_that_is_away(rules: SiteRules, copy: RedisCopy) -> None:
    """Without SQL nothing changes, and the caller is told."""
    rows = SqlSites.open("postgresql://nobody@/none?host=/nonexistent")
    catalog = Catalog(rows, copy, rules)
    with pytest.raises(JournalUnavailable):
        await catalog.add("shop", BLOCK)
    assert (await copy.marks()).version == 0
    await rows.close()


async def test_unreadable_rows_hurt_themselves(rules: SiteRules) -> None:
    """A row that this version cannot read, or whose name a file has, keeps no other one from its way."""
    rows = [
        StoredSite(name=name, block=block, version=1, created_at=1, changed_at=1)
        for name, block in (("odd", {"later": 1}), ("filed", BLOCK), ("shop", BLOCK))
    ]
    assert list(readable_sites(rules, rows)) == ["shop"]


def test_secrets_are_in_no_repr() -> None:
    """The text of a stored site shows no key."""
    site = StoredSite(name="shop", block=dict(BLOCK), version=1, created_at=1, changed_at=1)
    assert "a-key" not in repr(site)
    assert msgspec.json.decode(msgspec.json.encode(site), type=StoredSite) == site


async def test_secrets_stay_where_they_are_not_given(catalog: Catalog, rules: SiteRules) -> None:
    """A block is shown without its secrets, and a change of what is shown keeps them."""
    webhook = {"url": "http://example.com/", "secret": "whsec_" + "A" * 32, "events": ["user.online"]}
    await catalog.add(
        "shop", {**BLOCK, "webhook": webhook, "topics": {"jwt_secret": "hush-of-the-topics-that-is-long-enough"}}
    )
    shown = rules.masked((await catalog.show("shop")).block)
    assert "apiKey" not in shown
    assert (shown["webhook"]["secret"], shown["topics"]) == ("***", {"jwt_secret": "***"})
    changed = await catalog.change("shop", {**shown, "device_ttl": 5})
    assert changed.block["webhook"] == webhook
    assert changed.block["topics"] == {"jwt_secret": "hush-of-the-topics-that-is-long-enough"}
    assert (changed.keys, changed.block["device_ttl"]) == ([BLOCK["apiKey"]], 5)
    with pytest.raises(ConfigError, match=r"^redisPublish.url: expected the secret itself$"):
        await catalog.change("shop", {**shown, "redisPublish": {"url": "***"}})


async def test_secrets_of_issuers_stay_with_their_issuer(catalog: Catalog, rules: SiteRules) -> None:
    """In a list a secret belongs to its issuer, wherever that stands by now; one of no known issuer has to be given."""
    one, two = ({"issuer": name, "secret": name * 40} for name in "ab")
    added = await catalog.add("shop", {**BLOCK, "jwt": [one, two]})
    assert [issuer.secrets for issuer in rules.read("shop", added.block).jwt] == [("a" * 40,), ("b" * 40,)]
    shown = rules.masked(added.block)
    assert [part["secret"] for part in shown["jwt"]] == ["***", "***"]
    third = {"issuer": "c", "secret": ["c" * 40, "d" * 40]}
    changed = await catalog.change("shop", {**shown, "jwt": [third, *reversed(shown["jwt"])]})
    assert changed.block["jwt"] == [third, two, one]
    alone = await catalog.change("shop", {**shown, "jwt": shown["jwt"][1]})
    assert alone.block["jwt"] == two
    assert rules.masked(alone.block)["jwt"] == {"issuer": "b", "secret": "***"}
    for wrong in ({"issuer": "a", "secret": "***"}, [{"issuer": "x", "secret": "***"}]):
        with pytest.raises(ConfigError, match=r"^jwt(\[0\])?.secret: expected the secret itself$"):
            await catalog.change("shop", {**shown, "jwt": wrong})
    with pytest.raises(ConfigError, match="public_key: expected a public key"):
        await catalog.change("shop", {**shown, "jwt": {"issuer": "a", "public_key": "none"}})


def test_a_text_from_outside_has_no_aliases() -> None:
    """A few lines cannot stand for a block without end; JSON is read as YAML."""
    bomb = "a: &a [x,x]\nb: &b [*a,*a]\n"
    with pytest.raises(ConfigError, match=r"^block:2: not valid YAML: an alias is not expected here$"):
        read_yaml_text(bomb, "block")
    with pytest.raises(ConfigError, match="nested too deeply"):
        read_yaml_text("a: " + "[" * 100_000, "block")
    assert read_yaml_text('{"apiKey": "x", "topics": {}}', "block") == {"apiKey": "x", "topics": {}}
    assert read_yaml_text(write_yaml({"a": ["ü", 1]}), "block") == {"a": ["ü", 1]}
