"""One run names every mistake of a configuration."""

import pytest

from app.config.mistakes import Mistakes
from app.errors import ConfigError


def test_every_mistake_is_named() -> None:
    """Mistakes are gathered over blocks and raised together, one a line; without any nothing is raised."""
    mistakes = Mistakes()
    mistakes.raise_any()
    with mistakes.noted():
        raise ConfigError("a: wrong\nb: wrong too")
    with mistakes.noted_at("c"):
        raise ConfigError("missing")
    mistakes.add("d: unknown")
    with pytest.raises(ConfigError) as caught:
        mistakes.raise_any()
    assert caught.value.mistakes == ["a: wrong", "b: wrong too", "c: missing", "d: unknown"]


def test_other_errors_are_not_noted() -> None:
    """An error that is no mistake of the configuration passes."""
    with pytest.raises(ValueError, match="ours"), Mistakes().noted():
        raise ValueError("ours")
