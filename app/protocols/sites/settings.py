"""The section `resume_ticket:` of a site."""

from typing import Annotated

from msgspec import Meta, Struct, field

from app.config.section import Section, SectionSpec


class ResumeTicket(Struct, frozen=True, kw_only=True):
    """For how long a client may come back without a request to authUrl."""

    #: The life of one ticket; a connected client gets a new one in time.
    ttl_seconds: int = 300
    #: The time since the last request to authUrl after which authUrl is asked again.
    max_age_seconds: int = 86_400


class ResumeTicketKeys(Section):
    """`resume_ticket:`"""

    ttl_seconds: Annotated[int, Meta(ge=1, le=86_400)] | None = field(name="ttl", default=None)
    max_age_seconds: Annotated[int, Meta(ge=1, le=2_592_000)] | None = field(name="max_age", default=None)


SECTION = SectionSpec("resume_ticket", ResumeTicketKeys, ResumeTicket, is_sufficient=False)
