"""The requests to updateUserUrl, and that no connect waits for them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.backends import user_updates
from app.backends.user_updates import MAX_IN_FLIGHT_PER_SITE, HttpUserUpdates
from app.config.settings import Site
from tests.backends.conftest import Backend, http_answer

MakeSite = Callable[..., Site]
AT = datetime(2015, 5, 6, 7, 49, 29, 196_000, tzinfo=UTC)


@pytest.fixture
async def updates() -> AsyncIterator[HttpUserUpdates]:
    """The adapter, closed when the test ends."""
    adapter = HttpUserUpdates(timeout_seconds=0.5)
    yield adapter
    await adapter.aclose(grace_seconds=0)


@pytest.mark.parametrize(("connected", "field"), [(True, "last_connected"), (False, "last_disconnected")])
async def test_put_names_user_and_moment(
    backend: Backend, updates: HttpUserUpdates, make_site: MakeSite, connected: bool, field: str
) -> None:
    """The PUT goes to the URL with the id in it, with the user's token, id and moment in UTC to the millisecond."""
    updates.update_user(make_site(), "8", "12345", connected, AT.astimezone(timezone(timedelta(hours=2))))
    (request,) = await backend.has_requests(1)
    assert (request.method, request.target) == ("PUT", "/users/8.json")
    assert request.headers["authorization"] == b"Token 12345"
    assert request.headers["content-type"] == b"application/json"
    assert json.loads(request.body) == {"id": "8", "user": {field: "2015-05-06T07:49:29.196Z"}}


async def test_id_is_quoted_and_token_may_miss(backend: Backend, updates: HttpUserUpdates, make_site: MakeSite) -> None:
    """An id cannot leave its place in the URL; without a token there is no Authorization header."""
    updates.update_user(make_site(), "a/b?c é", None, True, AT)
    (request,) = await backend.has_requests(1)
    assert request.target == "/users/a%2Fb%3Fc%20%C3%A9.json"
    assert "authorization" not in request.headers


async def test_nothing_to_tell(backend: Backend, updates: HttpUserUpdates, make_site: MakeSite) -> None:
    """A site without updateUserUrl and a user without an id cause no request."""
    updates.update_user(Site(name="quiet", auth_url=backend.url, api_key="1"), "8", None, True, AT)
    updates.update_user(make_site(), "", None, True, AT)
    updates.update_user(make_site(), "last", None, True, AT)
    assert [request.target for request in await backend.has_requests(1)] == ["/users/last.json"]


@pytest.mark.parametrize("user_id", [".", "..", "a\ud800"])
async def test_id_that_no_url_can_name(
    backend: Backend, updates: HttpUserUpdates, make_site: MakeSite, logged: list[dict[str, object]], user_id: str
) -> None:
    """An id that would change the URL's path, and one that no URL can hold, cause no request and a line in the log."""
    updates.update_user(make_site(), user_id, None, True, AT)
    updates.update_user(make_site(), "...", None, True, AT)
    assert [request.target for request in await backend.has_requests(1)] == ["/users/....json"]
    assert [line["event"] for line in logged] == ["user update refused"]


async def test_failures_are_logged_and_forgotten(
    backend: Backend, updates: HttpUserUpdates, make_site: MakeSite, logged: list[dict[str, object]]
) -> None:
    """A bad status, a token no header carries and a cut connection are log lines without secrets; the next goes out."""
    backend.answer = http_answer(b"", "500 Internal Server Error")
    updates.update_user(make_site(), "1", "hidden", True, AT)
    await backend.has_requests(1)
    updates.update_user(make_site(), "2", "hidden\n", True, AT)
    backend.answer = b""
    updates.update_user(make_site(), "3", "hidden", True, AT)
    await updates.aclose()
    assert sorted(str(line["reason"]) for line in logged) == [
        "connection failed",
        "token cannot be sent in an HTTP header",
        "unexpected status",
    ]
    assert {line["event"] for line in logged} == {"user update failed"}
    assert "hidden" not in str(logged)


async def test_requests_at_one_moment_are_bounded(
    backend: Backend, updates: HttpUserUpdates, make_site: MakeSite
) -> None:
    """With any number of users at once, a site has a bounded number of requests in flight, and all are made."""
    count = 5 * MAX_IN_FLIGHT_PER_SITE
    backend.gate = asyncio.Event()
    for i in range(count):
        updates.update_user(make_site(), str(i), None, True, AT)
    await backend.has_requests(MAX_IN_FLIGHT_PER_SITE)
    backend.gate.set()
    requests = await backend.has_requests(count)
    assert backend.most_at_once == MAX_IN_FLIGHT_PER_SITE
    assert len({request.target for request in requests}) == count


async def test_what_waits_is_bounded(
    backend: Backend,
    updates: HttpUserUpdates,
    make_site: MakeSite,
    logged: list[dict[str, object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Past the bound an update is dropped with a log line: a dead backend costs bounded memory."""
    monkeypatch.setattr(user_updates, "MAX_WAITING_PER_SITE", 3)
    for i in range(5):
        updates.update_user(make_site(), str(i), None, True, AT)
    assert [line["event"] for line in logged] == ["user update dropped"] * 2
    assert len(await backend.has_requests(3)) == 3


async def test_close_waits_for_what_is_in_flight(
    backend: Backend, updates: HttpUserUpdates, make_site: MakeSite
) -> None:
    """Updates made before the close are sent within the grace; later ones are not."""
    updates.update_user(make_site(), "8", None, False, AT)
    await updates.aclose()
    updates.update_user(make_site(), "9", None, False, AT)
    assert [request.target for request in backend.requests] == ["/users/8.json"]


async def test_close_does_not_wait_for_ever(
    backend: Backend, make_site: MakeSite, logged: list[dict[str, object]]
) -> None:
    """A silent backend delays the close by the grace at most; the dropped updates are counted."""
    updates = HttpUserUpdates(timeout_seconds=60)
    backend.gate = asyncio.Event()
    for i in range(MAX_IN_FLIGHT_PER_SITE + 2):
        updates.update_user(make_site(), str(i), None, False, AT)
    await backend.has_requests(MAX_IN_FLIGHT_PER_SITE)
    await asyncio.wait_for(updates.aclose(grace_seconds=0.01), timeout=20)
    assert [(line["event"], line["count"]) for line in logged] == [("user updates dropped", 2)]
