"""Helpers for Django: one client of the settings, messages behind the commit, and views for `authUrl` and the webhook.

RECADO = {
    "url": "https://push.example.com", "site": "newsite", "api_key": "54321",  # and other options of Client
    "rooms": "shop.push.rooms_of",  # a function of a user: a list of rooms, or None to refuse the user
    "token_age": 86400,  # seconds for which a page may connect with its token
}
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack, cast

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import signing
from django.core.signals import setting_changed
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt

from recado_client.auth_url import auth_answer, token_in
from recado_client.calls import UNSET
from recado_client.client import Client
from recado_client.errors import BadWebhook
from recado_client.messages import Rooms, SendOptions
from recado_client.webhooks import MAX_BODY_BYTES

_SALT = "recado.page"
_TOKEN_AGE_SECONDS = 86_400
#: The keys of the setting that are not the client's.
_OWN = ("rooms", "token_age")


@functools.cache
def client() -> Client:
    """The client of the setting `RECADO`, one for each process."""
    return Client(**{name: value for name, value in settings.RECADO.items() if name not in _OWN})


def send_on_commit(
    rooms: Rooms, event: str, args: object = UNSET, *, using: str | None = None, **options: Unpack[SendOptions]
) -> None:
    """Send an event when the transaction has committed, or at once outside of one; nothing when it is rolled back.

    The row is in the database by then, so an error is logged and does not reach the view.
    """
    transaction.on_commit(lambda: client().send(rooms, event, args, **options), using=using, robust=True)


def page_token(user: Any) -> str:
    """A token for the page of this user, which `rooms_view` understands."""
    return str(signing.dumps(str(user.pk), salt=_SALT))


def rooms_view(request: HttpRequest) -> HttpResponse:
    """The view for the site's `authUrl`: the rooms of the user whose token the request has."""
    if request.method != "GET":
        return HttpResponse(status=405, headers={"Allow": "GET"})
    user = _user_of(token_in(request.headers.get("Authorization")))
    answer = auth_answer(None if user is None else _rooms_of(user))
    return HttpResponse(answer.body, status=answer.status, headers=answer.headers)


def webhook_view(receive: Callable[[Mapping[str, Any]], object]) -> Callable[[HttpRequest], HttpResponse]:
    """A view for the site's webhook: `receive` gets each event, and the server hears 204 when it has kept all."""

    def view(request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            return HttpResponse(status=405, headers={"Allow": "POST"})
        try:
            # One byte more than a webhook may have tells that it is too long.
            events = client().verify_webhook(request.read(MAX_BODY_BYTES + 1), request.headers)
        except BadWebhook:
            return HttpResponse(status=400)
        for event in events:
            receive(event)
        return HttpResponse(status=204)

    return cast(Callable[[HttpRequest], HttpResponse], csrf_exempt(view))


def _user_of(token: str | None) -> Any:
    age = settings.RECADO.get("token_age", _TOKEN_AGE_SECONDS)
    try:
        key = signing.loads(token or "", salt=_SALT, max_age=age)
    except signing.BadSignature:
        return None
    user = get_user_model()._default_manager.filter(pk=key).first()
    return user if user is not None and getattr(user, "is_active", True) else None


def _rooms_of(user: Any) -> Sequence[str | int] | None:
    rooms = settings.RECADO.get("rooms")
    if rooms is None:
        return [f"user_{user.pk}"]
    found: Sequence[str | int] | None = (import_string(rooms) if isinstance(rooms, str) else rooms)(user)
    return found


def _forget(*, setting: str, **_: object) -> None:
    """Make another client when a test changes the setting."""
    if setting == "RECADO":
        client.cache_clear()


setting_changed.connect(_forget)
