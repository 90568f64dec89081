"""The headers of a POST, judged by the package standardwebhooks."""

from __future__ import annotations

import time

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from app.webhooks.signature import signed_headers

SECRET = "whsec_cHV0LTI0LXJhbmRvbS1ieXRlcy1oZXJlISEh"
OTHER = "whsec_b3RoZXItMjQtcmFuZG9tLWJ5dGVzLWhlcmU="


@pytest.mark.parametrize("secret", [SECRET, OTHER])
def test_each_secret_signs(secret: str) -> None:
    """A receiver that knows one of two secrets accepts the request; another body or id it does not."""
    body = b'{"type":"events","data":{}}'
    headers = signed_headers("msg_1", int(time.time()), body, (SECRET, OTHER))
    assert Webhook(secret).verify(body.decode(), headers) == {"type": "events", "data": {}}
    for wrong in ({"webhook-id": "msg_2"}, {"webhook-signature": headers["webhook-signature"][:-60]}):
        with pytest.raises(WebhookVerificationError):
            Webhook(OTHER).verify(body.decode(), headers | wrong)
