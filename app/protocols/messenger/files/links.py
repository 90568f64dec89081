"""Links to one file that count for a minute without a session, for images and links of pages. Pure."""

import hmac
import re
from hashlib import sha256
from urllib.parse import quote

#: How long a link counts, and the clock's difference between nodes that is let pass.
LINK_SECONDS = 60
_LINK = re.compile(r"(\d{1,15})\.(\d{1,19})\.([0-9a-f]{64})")
#: The purpose of the key: the site's secret serves others too.
_PURPOSE = b"file link\0"


def file_path(site: str, file: str) -> str:
    """The path of a file."""
    return f"/{quote(site, safe='')}/files/{file}"


def link_to(secret: bytes, site: str, file: str, user: int, now_ms: int) -> str:
    """The path with which this user's browser gets the file for a minute."""
    until = now_ms + LINK_SECONDS * 1000
    return f"{file_path(site, file)}?link={until}.{user}.{_signature(secret, site, file, user, until)}"


def user_of_link(secret: bytes, site: str, file: str, link: str, now_ms: int) -> int | None:
    """The user for whom a link was made; None: it does not count for this file now."""
    found = _LINK.fullmatch(link) if link.isascii() else None
    if found is None:
        return None
    until, user = int(found[1]), int(found[2])
    is_right = hmac.compare_digest(_signature(secret, site, file, user, until), found[3])
    return user if is_right and now_ms < until else None


def _signature(secret: bytes, site: str, file: str, user: int, until: int) -> str:
    key = hmac.digest(secret, _PURPOSE, sha256)
    text = "\0".join((site, file, str(user), str(until)))
    return hmac.new(key, text.encode("utf-8", "surrogatepass"), sha256).hexdigest()
