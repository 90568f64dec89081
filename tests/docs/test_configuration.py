"""Every key and every environment variable of the configuration is documented, and nothing else is."""

from __future__ import annotations

import re

from tests.support.configuration import environment_variables, server_keys, site_keys
from tests.support.examples import text_of
from tests.support.processes import REPOSITORY

_PAGE = "docs/configuration.md"
#: A section of a site that a protocol's page documents.
_SECTION_PAGES = {
    "channels": "docs/channels.md",
    "topics": "docs/topics.md",
    "redisPublish": "docs/redis-publish.md",
    "messenger": "docs/messenger.md",
    "pusher": "docs/moving/pusher.md",
}
_CODE = re.compile(r"`([\w.]+)`")
_YAML_KEY = re.compile(r"^ *(\w+):", re.MULTILINE)
#: Read by the Procfile, for the server's option `--workers`.
_OF_THE_PROCFILE = {"WEB_CONCURRENCY"}


def table_of(page: str, heading: str) -> list[list[str]]:
    """The rows of the table below a heading, without its head, as cells."""
    _, _, below = text_of(page).partition(f"\n## {heading}\n")
    section = below.partition("\n## ")[0]
    rows = [re.split(r" *\| *", line.strip("| ")) for line in section.splitlines() if line.startswith("| ")]
    return rows[2:]


def names_in(cells: list[str]) -> set[str]:
    """The names in backticks in these cells."""
    return {name for cell in cells for name in _CODE.findall(cell)}


def test_every_key_of_config_yml_is_documented() -> None:
    """The first column of the table in docs/configuration.md holds each key of config.yml, and no other."""
    assert names_in([row[0] for row in table_of(_PAGE, "Keys of config.yml")]) == server_keys()


def test_every_key_of_a_site_is_documented() -> None:
    """A key of sites.yml stands in docs/configuration.md, or on the page of the protocol whose section it is in."""
    rows = [row[0] for row in table_of(_PAGE, "Keys of a site")]
    documented = names_in(rows)
    inherited = {key.partition(".")[0] for key in server_keys() & site_keys()}
    known = site_keys()
    sections = {key.partition(".")[0] for key in known}
    for key in known:
        section, _, rest = key.partition(".")
        if section in _SECTION_PAGES:
            assert rest in keys_on(_SECTION_PAGES[section]), key
        elif section in inherited:
            assert section in documented, key
        else:
            assert key in documented, key
    assert documented <= known | sections


def keys_on(page: str) -> set[str]:
    """The keys that a protocol's page shows: in the first column of a table, or in an example in YAML."""
    lines = [line.partition(" | ")[0] for line in text_of(page).splitlines() if line.startswith("| ")]
    blocks = re.findall(r"^```yaml\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)
    return names_in(lines) | {key for block in blocks for key in _YAML_KEY.findall(block)}


def test_every_environment_variable_is_documented() -> None:
    """docs/configuration.md holds a row for each environment variable, and an example file names it."""
    rows = table_of(_PAGE, "Environment variables")
    assert names_in([row[0] for row in rows]) == environment_variables() | _OF_THE_PROCFILE
    files = "".join((REPOSITORY / name).read_text() for name in ("config.example.yml", "sites.example.yml"))
    assert {name for name in environment_variables() if not re.search(rf"\b{name}\b", files)} == set()


def test_variables_stand_beside_their_keys() -> None:
    """Each variable that stands for a key is in the row of a key."""
    beside = names_in([row[1] for row in table_of(_PAGE, "Keys of config.yml")])
    beside |= names_in([row[2] for row in table_of(_PAGE, "Keys of a site")])
    choosing = {"APP_ENV", "NODE_ENV", "RECADO_CONFIG", "RECADO_SITES", "SITE_NAME"}
    assert beside | choosing == environment_variables()


def test_every_key_is_in_an_example_file() -> None:
    """config.example.yml and sites.example.yml show each key."""
    for name, keys in (("config.example.yml", server_keys()), ("sites.example.yml", site_keys())):
        shown = set(_YAML_KEY.findall((REPOSITORY / name).read_text().replace("# private_key", "private_key")))
        assert {key for key in keys if key.rpartition(".")[2] not in shown} == set(), name
