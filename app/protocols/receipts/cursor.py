"""Cursors: where the next page of a list begins, as a text that only Recado reads.

A cursor is JSON with a signature that the site's key makes, so that every node can check it. A broken one, or one of
another list, is refused. It holds numbers and handles, which mean something in one site alone.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from app.protocols.receipts.refusal import ReceiptRefused
from app.protocols.receipts.settings import MAX_CURSOR_BYTES

_SIGNATURE_BYTES = 12

T = TypeVar("T")


def write_cursor(place: object, key: str, of: str) -> str:
    """The text of a place in the list `of` a site with this key."""
    data = msgspec.json.encode(place)
    return urlsafe_b64encode(_signature(data, key, of) + data).decode().rstrip("=")


def read_cursor(text: str, kind: type[T], key: str, of: str) -> T:
    """The place that `write_cursor` made the text of. Raises ReceiptRefused for any other text."""
    try:
        if len(text) > MAX_CURSOR_BYTES:
            raise ValueError
        packed = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        signature, data = packed[:_SIGNATURE_BYTES], packed[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, _signature(data, key, of)):
            raise ValueError
        return msgspec.json.decode(data, type=kind)
    except (ValueError, Base64Error, msgspec.DecodeError):
        raise ReceiptRefused("cursor: expected the cursor of a page of this list.") from None


def list_name(path: str, query: Mapping[str, str]) -> str:
    """The name of a list, which its cursors are bound to: the path, and the parameters that choose its items."""
    chosen = {name: value for name, value in query.items() if name not in ("apiKey", "cursor", "limit", "bodies")}
    return path + "?" + msgspec.json.encode(chosen, order="sorted").decode()


def _signature(data: bytes, key: str, of: str) -> bytes:
    return hmac.digest(key.encode("utf-8", "surrogatepass"), of.encode() + b"\n" + data, "sha256")[:_SIGNATURE_BYTES]
