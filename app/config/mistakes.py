"""The mistakes of a configuration, gathered so that one run names all of them."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import ConfigError


class Mistakes:
    """Gathers the lines of ConfigErrors. Lives while the settings are read."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        """Notes one mistake."""
        self._lines.append(line)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Within this a ConfigError ends the block only, and its mistakes are noted."""
        try:
            yield
        except ConfigError as error:
            self._lines += error.mistakes

    @contextmanager
    def noted_at(self, place: str) -> Iterator[None]:
        """The same; each mistake is put behind the place."""
        try:
            yield
        except ConfigError as error:
            self._lines += [f"{place}: {mistake}" for mistake in error.mistakes]

    def raise_any(self) -> None:
        """Raises ConfigError with every mistake noted so far, one a line; nothing happens when there is none."""
        if self._lines:
            raise ConfigError("\n".join(self._lines))
