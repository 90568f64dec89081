"""The detail that travels with a push over the bus and in the history: its recipients, or another meaning. Pure."""

import msgspec
from msgspec import Struct


class Detail(Struct, omit_defaults=True):
    """The detail of each message of the protocol; the defaults mean a push for all subscribers of its channels."""

    #: The uuids of the only recipients.
    recipients: list[str] = []
    #: The channels are deleted: the channel's digest, in hexadecimal, tells which channel of that name.
    deleted: str = ""
    #: The message is a mark and no push: every message before it has been heard.
    is_mark: bool = False


_decoder = msgspec.json.Decoder(Detail | None)

MARK = msgspec.json.encode(Detail(is_mark=True))


def encode_detail(detail: Detail) -> bytes:
    """Encodes a detail for its way over the bus."""
    return msgspec.json.encode(detail)


def decode_detail(text: bytes) -> Detail:
    """Decodes a detail from the bus."""
    return _decoder.decode(text) or Detail()
