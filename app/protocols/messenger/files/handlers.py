"""The event of files: a link for images and links of pages."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from msgspec import Meta

from app.config.settings import Site
from app.errors import RequestRefused
from app.protocols.messenger.answers import ChatEvent, ChatRefusal, ChatUnavailable
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.files.ports import FilesUnavailable
from app.protocols.messenger.handlers import Handler

FileId = Annotated[str, Meta(min_length=1, max_length=64)]
#: `NodeFiles.link`.
MakeLink = Callable[[Site, int, str], Awaitable[str]]


class FileLinkData(ChatEvent):
    """`file_link`: the file."""

    id: FileId


def file_handlers(make_link: MakeLink) -> dict[str, Handler]:
    """The events of files."""

    async def link(caller: ChatCaller, data: FileLinkData) -> dict[str, Any]:
        try:
            return {"url": await make_link(caller.site, caller.me.id, data.id)}
        except RequestRefused as refusal:
            raise ChatRefusal(refusal.code, str(refusal)) from None
        except FilesUnavailable:
            raise ChatUnavailable from None

    return {"file_link": Handler(FileLinkData, link)}
