"""The helpers for Django, in this process: messages behind the commit, and the views for authUrl and the webhook."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import django
import pytest
from django.conf import settings
from django.core import signing
from django.core.management import call_command
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import RequestFactory
from django.test.utils import override_settings
from standardwebhooks import Webhook

from recado_client import Client
from tests.packages.conftest import KEY, SITE, Customers
from tests.support.deployment import Deployment
from tests.support.hook_receiver import SECRET as HOOK_SECRET

SECONDS = 30.0
#: The settings exist before the helpers and the models are imported, as in a project.
if not settings.configured:
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
        LOGGING_CONFIG=None,
        SECRET_KEY="a secret of the tests",
        RECADO={},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        django.setup()

from django.contrib.auth.models import User  # noqa: E402  # needs the settings

from recado_client import django as helpers  # noqa: E402  # needs the settings


@pytest.fixture(scope="module")
def tables() -> Iterator[None]:
    """A database in memory with Django's tables."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    yield
    connection.close()


@pytest.fixture
def recado(server: Deployment, tables: None) -> Iterator[None]:
    """The setting of a project whose site is the shop."""
    site = {"url": server.url, "site": SITE, "api_key": KEY, "webhook_secret": HOOK_SECRET, "retries": 0}
    with override_settings(RECADO=site):
        yield
        helpers.client().close()


@pytest.mark.usefixtures("recado")
def test_a_message_goes_behind_the_commit(customers: Customers) -> None:
    """A message of a transaction is sent when the transaction has committed, and not when it is rolled back."""
    user = customers.user()
    device = customers.connect(user)
    with transaction.atomic():
        helpers.send_on_commit(user.room, "lost")
        transaction.set_rollback(True)
    with transaction.atomic():
        helpers.send_on_commit(user.room, "kept", [1], ttl=60)
        helpers.client().send(user.room, "before")
    device.wait_event("kept", timeout_seconds=SECONDS)
    assert device.names() == ["before", "kept"]


@pytest.mark.usefixtures("recado")
def test_an_error_behind_the_commit_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The row is stored by then: the error does not reach the view, stands in the log, and has no secret."""
    with transaction.atomic():
        helpers.send_on_commit("all", "_batch")
    assert "400" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.usefixtures("recado")
def test_rooms_of_a_user() -> None:
    """The view answers the rooms of an active user by the token of the page, and refuses every other token."""
    user = User.objects.create(username="ana")
    assert rooms_for(helpers.page_token(user)) == (200, [f"user_{user.pk}"])
    for token in ("", "x", signing.dumps(str(user.pk)), helpers.page_token(User(pk=10**6))):
        assert rooms_for(token)[0] == 401
    with override_settings(RECADO=settings.RECADO | {"token_age": -1}):
        assert rooms_for(helpers.page_token(user))[0] == 401
    with override_settings(RECADO=settings.RECADO | {"rooms": f"{__name__}.no_rooms"}):
        assert rooms_for(helpers.page_token(user)) == (401, {"error": "Authentication failed"})
    user.is_active = False
    user.save()
    assert rooms_for(helpers.page_token(user))[0] == 401
    assert helpers.rooms_view(RequestFactory().post("/rooms")).status_code == 405


def no_rooms(user: Any) -> None:
    """Refuse every user."""


def rooms_for(token: str) -> tuple[int, Any]:
    """The answer of the view to a token."""
    answer: HttpResponse = helpers.rooms_view(
        RequestFactory().get("/rooms", headers={"Authorization": f"Token {token}"})
    )
    return answer.status_code, json.loads(answer.content)


@pytest.mark.usefixtures("recado")
def test_a_webhook() -> None:
    """The view hands in each event of a signed request, and answers 400 to one that is not signed."""
    told: list[Any] = []
    view = helpers.webhook_view(told.append)
    body = json.dumps({"data": {"events": [{"type": "user.online"}, {"type": "user.offline"}]}})
    headers = {"webhook-id": "1", "webhook-timestamp": str(int(time.time()))}
    signature = Webhook(HOOK_SECRET).sign("1", datetime.now(UTC), body)
    moment = {"webhook-timestamp": str(int(time.time()))}
    request = RequestFactory().generic("POST", "/", body, headers=headers | moment | {"webhook-signature": signature})
    assert view(request).status_code == 204
    assert [event["type"] for event in told] == ["user.online", "user.offline"]
    assert view(RequestFactory().generic("POST", "/", body, headers=headers)).status_code == 400
    assert view(RequestFactory().generic("POST", "/", "x" * (2 << 20), headers=headers)).status_code == 400
    assert view(RequestFactory().get("/")).status_code == 405
    assert getattr(view, "csrf_exempt", False)
    assert len(told) == 2


def test_one_client_for_a_process() -> None:
    """The client is made of the setting, once; another setting makes another."""
    with override_settings(RECADO={"url": "http://127.0.0.1:1", "site": "a", "api_key": "b", "rooms": "c"}):
        first = helpers.client()
        assert isinstance(first, Client)
        assert first is helpers.client()
    with override_settings(RECADO={"url": "http://127.0.0.1:1", "site": "b", "api_key": "b"}):
        assert helpers.client().settings.site == "b"
