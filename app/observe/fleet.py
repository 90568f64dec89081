"""The figures of all workers behind one port. Prometheus asks any one of them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from app.observe.metrics import Metrics

FETCH_TIMEOUT_SECONDS = 2.0
_HEAD = b"# HELP "
_UP = b"recado_worker_up"


class Fleet:
    """This worker's figures and those of its siblings. Lives as long as the node."""

    def __init__(
        self,
        metrics: Metrics,
        number: int,
        siblings: Callable[[], Sequence[int]],
        fetch: Callable[[int], Awaitable[bytes | None]],
    ) -> None:
        """This is the worker `number` of `siblings`, which come and go. `fetch` calls another's `render_own`; None
        without an answer."""
        self._metrics = metrics
        self._number = number
        self._siblings = siblings
        self._fetch = fetch

    async def render_own(self) -> bytes:
        """This worker's figures. A thread writes them: thousands of lines would block the loop."""
        return await asyncio.to_thread(self._metrics.render)

    async def render(self) -> bytes:
        """The figures of all workers. A worker that does not answer has `recado_worker_up 0` alone."""
        numbers = [*self._siblings()] or [self._number]
        if numbers == [self._number]:
            return await self.render_own()
        texts = await asyncio.gather(*map(self._render_of, numbers))
        return await asyncio.to_thread(merge, texts)

    def _render_of(self, number: int) -> Awaitable[bytes | None]:
        return self.render_own() if number == self._number else self._fetch(number)


def merge(texts: Sequence[bytes | None]) -> bytes:
    """Joins the workers' texts in Prometheus's format: each metric stands in one place."""
    families: dict[bytes, list[bytes]] = {}
    for text in texts:
        for family in (text or b"").split(_HEAD)[1:]:
            help_line, type_line, samples = family.split(b"\n", 2)
            families.setdefault(b"%b%b\n%b\n" % (_HEAD, help_line, type_line), []).append(samples)
    up = next(head for head in families if head.startswith(_HEAD + _UP + b" "))
    for number, text in enumerate(texts):
        if text is None:
            families[up].insert(number, b'%b{worker="%d"} 0.0\n' % (_UP, number))
    return b"".join(part for head, samples in families.items() for part in (head, *samples))
