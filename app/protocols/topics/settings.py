"""The section `topics:` of a site."""

from typing import Annotated

from msgspec import Meta, Struct, field

from app.config.section import (
    Amount,
    HeaderText,
    HistorySection,
    HttpUrl,
    Seconds,
    Section,
    SectionSpec,
    Text,
)
from app.config.settings import HistoryLimit
from app.config.wording import matching

_Pem = Annotated[str, matching(r"^\s*-----BEGIN [A-Z ]*KEY-----\s", "a key in PEM, which begins with -----BEGIN")]

_Method = Annotated[str, matching(r"^[A-Z]{1,20}\Z", "a method such as POST, in capitals")]
#: The connection itself sets the others that frame a request.
_HeaderName = Annotated[
    str,
    matching(
        r"^(?!(?i:content-length|transfer-encoding|connection|expect)\Z)[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}\Z",
        "the name of a header that does not frame the request",
    ),
]
_Headers = Annotated[dict[_HeaderName, HeaderText], Meta(max_length=50)]


class Topics(Struct, frozen=True, kw_only=True):
    """A site's settings for its topics. The repr holds no key."""

    #: A subscription ends after this time unless /alive extends it, at most `max_alive_count` times.
    connection_timeout_seconds: float = 60.0
    max_alive_count: int = 60
    #: A stream without data for this time gets a keep-alive.
    keep_alive_seconds: float = 50.0
    #: The maximum number of topics in one subscription.
    max_topics: int = 1_000
    #: The maximum number of levels in the topics of all streams of one address on one node.
    max_levels_per_address: int = 100_000
    history: HistoryLimit = HistoryLimit()
    #: Whether /connections, /state and /memory need no key.
    open_status: bool = False
    #: Whether a wildcard in the first place stands for topics that begin with `@` or `$`, too.
    reserved_under_hash: bool = False
    #: The keys that sign bind keys: the secret of HS256, the public key (PEM) of RS256.
    jwt_secret: str | None = None
    jwt_public_key: str | None = None
    #: The private key (PEM) for the original's encrypted bind keys, their maximum
    #: age, and the URL that answers their user.
    private_key: str | None = None
    bind_key_ttl_seconds: float = 3.0
    bind_url: str | None = None
    #: The method of its requests, and headers beside Content-Type: application/json.
    bind_method: str = "POST"
    bind_headers: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Topics(connection_timeout_seconds={self.connection_timeout_seconds})"


class TopicsKeys(Section):
    """`topics:`"""

    connection_timeout_seconds: Seconds | None = field(name="connection_timeout", default=None)
    max_alive_count: Annotated[int, Meta(ge=0)] | None = None
    keep_alive_seconds: Seconds | None = field(name="keep_alive", default=None)
    max_topics: Amount | None = None
    max_levels_per_address: Amount | None = None
    history: HistorySection | None = None
    open_status: bool | None = None
    reserved_under_hash: bool | None = None
    jwt_secret: Text | None = None
    jwt_public_key: _Pem | None = None
    private_key: _Pem | None = None
    bind_key_ttl_seconds: Seconds | None = field(name="bind_key_ttl", default=None)
    bind_url: HttpUrl | None = field(name="bindUrl", default=None)
    bind_method: _Method | None = None
    bind_headers: _Headers | None = None


SECTION = SectionSpec(
    "topics",
    TopicsKeys,
    Topics,
    is_bindable=True,
    secrets=frozenset(("jwt_secret", "jwt_public_key", "private_key", "bind_url", "bind_headers")),
)
