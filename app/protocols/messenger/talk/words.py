"""The words of a text, as they are found: the same in both databases. Plain code."""

import re
import unicodedata

from app.protocols.messenger.talk.settings import MAX_SEARCHED_WORDS, MAX_WORD_CHARACTERS, MAX_WORDS

_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """The words of a text, each once, without case and accents."""
    folded = unicodedata.normalize("NFKD", text).casefold()
    plain = unicodedata.normalize("NFKC", "".join(one for one in folded if not unicodedata.combining(one)))
    found = (match[:MAX_WORD_CHARACTERS] for match in _WORD.findall(plain))
    return list(dict.fromkeys(found))[:MAX_WORDS]


def searched_words(text: str) -> list[str]:
    """The words that a message has to have; the last one is the begin of a word."""
    return words_of(text)[:MAX_SEARCHED_WORDS]
