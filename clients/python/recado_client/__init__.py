"""Sends messages through a Recado server from a Python backend, and answers what the server asks of it."""

from recado_client.async_client import AsyncClient
from recado_client.auth_url import AuthAnswer, auth_answer, token_in
from recado_client.client import Client
from recado_client.errors import BadAnswer, BadInput, BadWebhook, RecadoError, Refused, Unreachable
from recado_client.messages import BatchAnswer, BatchMessage, DeviceFate, Receipt, SendOptions, Sent
from recado_client.webhooks import verify_webhook

__all__ = [
    "AsyncClient",
    "AuthAnswer",
    "BadAnswer",
    "BadInput",
    "BadWebhook",
    "BatchAnswer",
    "BatchMessage",
    "Client",
    "DeviceFate",
    "RecadoError",
    "Receipt",
    "Refused",
    "SendOptions",
    "Sent",
    "Unreachable",
    "auth_answer",
    "token_in",
    "verify_webhook",
]
