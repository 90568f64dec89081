"""Comparing secrets."""

from app.digests import digest, is_same_secret


def test_secrets_are_compared_by_digest() -> None:
    """A secret is the same as itself alone, whatever text it is."""
    assert is_same_secret("a", digest("a"))
    assert not is_same_secret("b", digest("a"))
    assert not is_same_secret("\udc80", digest("a"))
