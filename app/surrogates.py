"""Any Python text as bytes and back: JSON may hold half a surrogate pair, which strict UTF-8 refuses.

A client may have cut a name in the middle of a pair.
"""


def encode_text(text: str) -> bytes:
    """The text in UTF-8, half a pair included; never raises."""
    return text.encode("utf-8", "surrogatepass")


def decode_text(data: bytes) -> str:
    """The text that `encode_text` made the bytes of."""
    return data.decode("utf-8", "surrogatepass")
