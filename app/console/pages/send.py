"""The page that sends a message."""

from app.console.page import ConsolePage

SEND = ConsolePage("send", "Send", "send.show", keeps="send.message")
