"""A page as a value: which operations it shows, and how it lives. The templates have the looks."""

from collections.abc import Mapping

from msgspec import Struct


class ConsolePage(Struct, frozen=True):
    """One page of the console. Its path is that of the operation that it shows. Lives as long as the process."""

    #: The name of its template, `templates/<name>.html`.
    name: str
    title: str
    #: The operation whose answer is `answer` in the template. The page's query holds its parameters.
    shows: str
    #: Further operations without actions: name in the template -> operation. They get the parameters that they know.
    also: Mapping[str, str] = {}
    #: The same for parts of the page that are not live: its stream does not ask them.
    beside: Mapping[str, str] = {}
    #: How often its block `live` is looked at while somebody has it open; None: it does not change by itself.
    live_seconds: float | None = None
    #: Whether operators with the same role and the same sites see the same, so that one look serves all of them.
    is_shared: bool = False
    #: Whether the menu names it. A page about one thing is reached from a list.
    is_in_menu: bool = True
    #: The action whose form the page shows again, with what was typed and with the answer as `told`.
    keeps: str | None = None
