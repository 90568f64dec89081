"""What travels beside a push over the bus and in the history: for whom it is, or what else it says. Pure."""

import msgspec
from msgspec import Struct


class Detail(Struct, omit_defaults=True):
    """Beside each message of the protocol; nothing given: a push for all of its channels' subscribers."""

    #: The uuids that alone get it.
    recipients: list[str] = []
    #: The channels are deleted: the digest of the token, in hexadecimal, tells which of a name.
    deleted: str = ""
    #: No push: all before it was heard.
    is_mark: bool = False


_decoder = msgspec.json.Decoder(Detail | None)

MARK = msgspec.json.encode(Detail(is_mark=True))


def encode_detail(detail: Detail) -> bytes:
    """As it travels."""
    return msgspec.json.encode(detail)


def decode_detail(text: bytes) -> Detail:
    """As it was given."""
    return _decoder.decode(text) or Detail()
