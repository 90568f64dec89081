"""msgspec's words for a value of the wrong type, as protocols tell them to their callers."""


def explain(reason: str) -> str:
    """The reason with the key in front: "Expected `str`, got `int` - at `$.event`" as "event: Expected ..."."""
    expected, _, path = reason.partition(" - at ")
    key = path.strip("`").removeprefix("$").lstrip(".")
    return f"{key}: {expected}." if key else f"{expected}."
