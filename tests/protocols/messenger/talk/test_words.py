"""The words of texts."""

from __future__ import annotations

from app.protocols.messenger.talk.settings import MAX_WORD_CHARACTERS, MAX_WORDS
from app.protocols.messenger.talk.words import searched_words, words_of


def test_words_without_case_and_accents() -> None:
    """Words have one form, whatever the case, accents and form of their characters."""
    assert words_of("Ünïcode NAÏVE don't a_b İstanbul \ufb01ne") == [
        *("unicode", "naive", "don", "t", "a", "b", "istanbul", "fine"),
    ]


def test_words_are_bounded() -> None:
    """A long word is cut; very many words are not all kept; a search has few."""
    assert words_of("x" * 1_000) == ["x" * MAX_WORD_CHARACTERS]
    assert len(words_of(" ".join(map(str, range(MAX_WORDS * 2))))) == MAX_WORDS
    assert len(searched_words(" ".join(map(str, range(100))))) == 16
