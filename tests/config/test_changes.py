"""The difference between the settings that run and those that were read."""

from msgspec import structs

from app.config.changes import changes_between
from app.config.settings import ClusterSettings, Config, SiteLimits
from app.protocols.channels.settings import Channels
from tests.support.store import make_site


def test_sites() -> None:
    """Sites are new, gone, or have another setting, also one of a protocol; the others are in no list."""
    running = [make_site("same", channels=Channels()), make_site("key"), make_site("section"), make_site("gone")]
    read = [
        make_site("same", channels=Channels()),
        make_site("key", api_key="other"),
        make_site("section", channels=Channels()),
        make_site("new"),
    ]
    changes = changes_between(
        Config(sites={site.name: site for site in running}), Config(sites={site.name: site for site in read})
    )
    assert [site.name for site in changes.added] == ["new"]
    assert changes.names == {"added": ["new"], "changed": ["key", "section"], "removed": ["gone"]}
    assert changes.settings == []


def test_stored_sites_are_in_no_file() -> None:
    """A site of SQL is not gone because no file has it, and a new one of its name in a file is not added."""
    stored = structs.replace(make_site("stored"), is_stored=True)
    running = Config(sites={"stored": stored, "shop": make_site()})
    changes = changes_between(running, Config(sites={"shop": make_site()}))
    assert (changes.names, changes.taken) == ({"added": []}, [])
    changes = changes_between(running, Config(sites={"shop": make_site(), "stored": make_site("stored")}))
    assert (changes.names, changes.taken) == ({"added": []}, ["stored"])


def test_settings_have_the_names_of_their_keys() -> None:
    """A setting of the server is named as config.yml writes it."""
    running = Config()
    read = structs.replace(
        running,
        device_ttl_seconds=7,
        redis_url="redis://:hush@h",
        worker=3,
        ping_interval_ms=7,
        mounts={"channels": "shop"},
        mount_ports={"channels": (1,)},
        limits=SiteLimits(connections=1),
        cluster=ClusterSettings(url="http://h", secret="hush"),
    )
    assert changes_between(running, read).settings == [
        *("cluster", "device_ttl", "flakeid.worker", "io.pingInterval", "limits", "mounts", "redis.url")
    ]


def test_nothing_has_changed() -> None:
    """The same settings, read again, are no change."""
    running = Config(sites={"shop": make_site()})
    changes = changes_between(running, Config(sites={"shop": make_site()}))
    assert (changes.names, changes.settings) == ({"added": []}, [])
