"""The difference between the settings of a running server and those that its files hold by now."""

from collections.abc import Iterator

from msgspec import Struct, structs

from app.config.keys import EngineSection, EnvironmentKeys, FlakeIdSection, RedisSection, TracingSection
from app.config.section import Section
from app.config.settings import Config, Site

#: The sections of an environment whose keys are settings of the server by themselves.
_SECTIONS: dict[str, type[Section]] = {
    "redis": RedisSection,
    "flakeid": FlakeIdSection,
    "io": EngineSection,
    "tracing": TracingSection,
}


class Changes(Struct, frozen=True):
    """The findings of a reload. Lives as long as the reload."""

    added: list[Site]
    #: The sites with other settings, and the names of the sites that are in the files no more.
    changed: list[Site]
    gone: list[str]
    #: The keys of config.yml with other values, which a running server cannot take.
    settings: list[str]
    #: The names of new sites that an operator has added meanwhile, so that they are in SQL: these go on.
    taken: list[str] = []

    @property
    def names(self) -> dict[str, list[str]]:
        """The sites of each kind, for a log line."""
        lists = {"changed": [site.name for site in self.changed], "removed": self.gone}
        return {"added": [site.name for site in self.added], **{kind: found for kind, found in lists.items() if found}}


def changes_between(running: Config, read: Config) -> Changes:
    """Compares the settings that run with those that were read. Sites of SQL are in no file, and are not compared."""
    of_files = {name: site for name, site in running.sites.items() if not site.is_stored}
    names = sorted(read.sites.keys() & of_files.keys())
    return Changes(
        [site for name, site in read.sites.items() if name not in running.sites],
        [read.sites[name] for name in names if read.sites[name] != running.sites[name]],
        sorted(of_files.keys() - read.sites.keys()),
        sorted({_KEYS.get(name, name) for name in _settings_between(running, read)}),
        sorted(name for name in read.sites if name in running.sites and name not in of_files),
    )


def become(site: Site, other: Site) -> None:
    """Gives a site the settings of another value: each part that holds the site sees them at its next look."""
    for name in Site.__struct_fields__:
        structs.force_setattr(site, name, getattr(other, name))


def _settings_between(running: Config, read: Config) -> Iterator[str]:
    for name in Config.__struct_fields__:
        if name != "sites" and getattr(running, name) != getattr(read, name):
            yield name


def _keys_of_settings() -> dict[str, str]:
    keys = {field.name: field.encode_name for field in structs.fields(EnvironmentKeys)}
    for section, kind in _SECTIONS.items():
        keys |= {field.name: f"{section}.{field.encode_name}" for field in structs.fields(kind)}
    return {**keys, "mount_ports": "mounts"}


_KEYS = _keys_of_settings()
