"""The outcome of an import: things that were made, that were there before, or could not come along. Plain data."""

from collections import Counter

from msgspec import Struct, field

#: The notes that are kept with their words; others are counted alone.
MAX_NOTES = 1_000


class ImportOutcome(Struct):
    """The outcome of one part, or of all. Lives as long as the import."""

    counts: Counter[str] = field(default_factory=Counter)
    #: The things that are not as they were, in words.
    notes: list[str] = field(default_factory=list)

    def note(self, name: str, text: str) -> None:
        """Counts something that is not as it was, and says what."""
        self.counts[name] += 1
        if len(self.notes) < MAX_NOTES:
            self.notes.append(text)

    def add(self, other: "ImportOutcome") -> list[str]:
        """Adds the outcome of a part; the notes that are kept of it."""
        self.counts.update(other.counts)
        kept = other.notes[: MAX_NOTES - len(self.notes)]
        self.notes += kept
        return kept
