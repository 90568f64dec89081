"""The pages of messages: the list, one message with its devices, and what happened to a user. The operations are those
of receipts."""

from app.console.page import ConsolePage

MESSAGES = ConsolePage("messages", "Messages", "messages.list", live_seconds=2.0, is_shared=True)
MESSAGE = ConsolePage("message", "Message", "messages.show", live_seconds=2.0, is_in_menu=False)
TRACE = ConsolePage("trace", "Trace of a user", "trace.show", live_seconds=5.0)
