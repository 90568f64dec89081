"""The contract of an import: the data of a server that a protocol replaces, as requests to a running Recado."""

from collections.abc import Callable, Sequence

from msgspec import Struct


class ImportedRequest(Struct, frozen=True):
    """One request; repeating it changes nothing. Its repr holds no body."""

    method: str
    #: Behind `/<protocol>/<site>`, percent-encoded.
    path: str
    body: bytes
    #: The imported thing, for people.
    subject: str

    def __repr__(self) -> str:
        return f"ImportedRequest({self.method!r}, {self.subject!r})"


class ImportPlan(Struct, frozen=True):
    """Everything that a file holds."""

    requests: Sequence[ImportedRequest]
    #: The things that are not imported as they were, each with the reason.
    notes: Sequence[str]


class Importer(Struct, frozen=True):
    """Reads one kind of file. Lives as long as the process."""

    #: The name of the replaced server, and of the subcommand of `recado import`.
    name: str
    help: str
    #: Reads a file's content; the text is the owner of things without one. Raises ConfigError.
    read: Callable[[bytes, str | None], ImportPlan]
