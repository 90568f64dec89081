"""The section `resume_ticket:` of a site."""

from typing import Annotated

from msgspec import Meta, Struct, field

from app.config.section import Section, SectionSpec


class ResumeTicket(Struct, frozen=True, kw_only=True):
    """How long a client may reconnect without a request to authUrl."""

    #: The lifetime of one ticket. A connected client gets a new ticket before the old one expires.
    ttl_seconds: int = 300
    #: The time after a request to authUrl when the server asks authUrl again.
    max_age_seconds: int = 86_400


class ResumeTicketKeys(Section):
    """`resume_ticket:`"""

    ttl_seconds: Annotated[int, Meta(ge=1, le=86_400)] | None = field(name="ttl", default=None)
    max_age_seconds: Annotated[int, Meta(ge=1, le=2_592_000)] | None = field(name="max_age", default=None)


SECTION = SectionSpec("resume_ticket", ResumeTicketKeys, ResumeTicket, is_sufficient=False)
