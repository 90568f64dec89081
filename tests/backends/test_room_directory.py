"""The requests to authUrl, and the meaning of its answers."""

import asyncio
import contextlib
import gzip
import json
import re
from collections.abc import AsyncIterator, Callable

import pytest

from app.backends import breaker
from app.backends.exchange import MAX_ANSWER_BYTES
from app.backends.figures import BackendCounts
from app.backends.room_directory import HttpRoomDirectory
from app.config.settings import Site
from app.core.address import MAX_ROOM_BYTES, MAX_ROOMS
from app.errors import AuthRefused
from app.observe.counts import Counts
from tests.backends.conftest import Backend, http_answer
from tests.support.waiting import until

MakeSite = Callable[..., Site]


@pytest.fixture
async def directory() -> AsyncIterator[HttpRoomDirectory]:
    """A directory with a time-out that tests can wait for."""
    adapter = HttpRoomDirectory(timeout_seconds=0.5)
    yield adapter
    await adapter.aclose()


async def refusal(directory: HttpRoomDirectory, site: Site, token: str | None = "t", meta: str | None = None) -> str:
    """The text of the refusal that must come."""
    with pytest.raises(AuthRefused) as caught:
        await directory.fetch_rooms(site, token, meta)
    return str(caught.value)


async def test_rooms_are_those_of_the_answer(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite
) -> None:
    """The rooms are the strings of the JSON array, in their order."""
    backend.answer = http_answer('["user_8", "día", "user_8"]'.encode())
    assert await directory.fetch_rooms(make_site(), "12345", None) == ["user_8", "día", "user_8"]


async def test_rooms_that_are_numbers(backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite) -> None:
    """A room that is a number is its text, as in JavaScript."""
    backend.answer = http_answer(b'[5, "a", 5.0, 1.5]')
    assert await directory.fetch_rooms(make_site(), "12345", None) == ["5", "a", "5", "1.5"]


async def test_token_and_meta_stand_in_their_headers(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite
) -> None:
    """GET authUrl carries `Authorization: <authScheme> <token>` and `X-META: <meta>`."""
    await directory.fetch_rooms(make_site(auth_url=f"{backend.url}/rooms?a=1&b=%20"), "12345", '{"page": 3}')
    request = backend.requests[0]
    assert (request.method, request.target) == ("GET", "/rooms?a=1&b=%20")
    assert request.headers["authorization"] == b"Token 12345"
    assert request.headers["x-meta"] == b'{"page": 3}'


@pytest.mark.parametrize("nothing", [None, ""])
async def test_no_header_without_a_value(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite, nothing: str | None
) -> None:
    """Without token and meta authUrl is asked without Authorization and X-META."""
    await directory.fetch_rooms(make_site(), nothing, nothing)
    assert not {"authorization", "x-meta"} & backend.requests[0].headers.keys()


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("401 Unauthorized", "Authentication failed"),
        ("403 Forbidden", "Auth 403 error"),
        ("500 Internal Server Error", "Auth 500 error"),
        ("204 No Content", "Auth 204 error"),
    ],
)
async def test_status_decides_the_refusal(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite, status: str, text: str
) -> None:
    """401 is `Authentication failed`, any other status but 200 `Auth <status> error`, whatever the body."""
    backend.answer = http_answer(b"" if status.startswith("204") else b'["user_8"]', status)
    assert await refusal(directory, make_site()) == text


async def test_redirects_are_not_followed(backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite) -> None:
    """A redirect is a refusal. Its target is not asked: the request would show it the token."""
    backend.answer = http_answer(b"", "302 Found", f"Location: {backend.url}/elsewhere")
    assert await refusal(directory, make_site()) == "Auth 302 error"
    assert len(backend.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"{}",
        b'"user_8"',
        b"[true]",
        b"[[1]]",
        b'["a", null]',
        b"null",
        b'["\xff"]',
        b'["a"] x',
        b"[" * 100_000,
    ],
)
async def test_only_an_array_of_strings_will_do(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite, body: bytes
) -> None:
    """A body that is no JSON array of strings is an `Auth error` that says so."""
    backend.answer = http_answer(body)
    assert await refusal(directory, make_site()) == "Auth error: expected a JSON array of strings"


@pytest.mark.parametrize("rooms", [["r"] * (MAX_ROOMS + 1), ["ä" * (MAX_ROOM_BYTES // 2) + "a"]])
async def test_rooms_are_bounded(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite, rooms: list[str]
) -> None:
    """One script of Redis, which all sites wait for, registers a connection in all of its rooms."""
    backend.answer = http_answer(json.dumps(rooms).encode())
    assert await refusal(directory, make_site()) == "Auth error: expected at most 10000 rooms of 1000 bytes each"
    backend.answer = http_answer(json.dumps([rooms[0][:-1], *rooms[1:MAX_ROOMS]]).encode())
    assert len(await directory.fetch_rooms(make_site(), "t", None)) == min(len(rooms), MAX_ROOMS)


async def test_answer_is_bounded(backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite) -> None:
    """A longer answer than the bound is refused, also when it is compressed."""
    long = b'["' + b"a" * MAX_ANSWER_BYTES + b'"]'
    backend.answer = http_answer(long)
    assert await refusal(directory, make_site()) == f"Auth error: answer longer than {MAX_ANSWER_BYTES} bytes"
    backend.answer = http_answer(gzip.compress(long), "200 OK", "Content-Encoding: gzip")
    assert await refusal(directory, make_site()) == f"Auth error: answer longer than {MAX_ANSWER_BYTES} bytes"


async def test_compressed_answer_is_understood(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite
) -> None:
    """A compressed answer is understood without being asked for. A wrong Content-Encoding is an `Auth error`."""
    backend.answer = http_answer(gzip.compress(b'["user_8"]'), "200 OK", "Content-Encoding: gzip")
    assert await directory.fetch_rooms(make_site(), "t", None) == ["user_8"]
    backend.answer = http_answer(b'["user_8"]', "200 OK", "Content-Encoding: gzip")
    assert await refusal(directory, make_site()) == "Auth error: answer could not be decoded"


async def test_time_out(backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite) -> None:
    """A backend that does not answer in time is an `Auth error: timed out`."""
    backend.gate = asyncio.Event()
    assert await refusal(directory, make_site()) == "Auth error: timed out"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "connection failed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]", "timed out"),
        (b"no HTTP at all\r\n\r\n", "not an HTTP answer"),
    ],
)
async def test_broken_answers(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite, answer: bytes, text: str
) -> None:
    """A cut connection, a body that never ends and bytes that are no HTTP are refusals with a short reason."""
    backend.answer = answer
    assert await refusal(directory, make_site()) == f"Auth error: {text}"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1:1/", "connection failed"),
        ("http://does-not-exist.invalid/", "connection failed"),
        ("http://127.0.0.1:99999/", "the URL is not usable"),
        ("http://a..b/", "the URL is not usable"),
        ("http://[::zz]/", "the URL is not usable"),
    ],
)
async def test_unreachable_backends(directory: HttpRoomDirectory, make_site: MakeSite, url: str, text: str) -> None:
    """A closed port, an unknown host and an unusable URL are refusals that do not show the URL."""
    assert await refusal(directory, make_site(auth_url=url)) == f"Auth error: {text}"


@pytest.mark.parametrize("value", ["a\r\nX-Admin: 1", "a\nb", "a\x00b", "日本", "\ud800"])
async def test_unsendable_values_are_refused(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite, value: str
) -> None:
    """A token or meta that no header can carry is a refusal naming which, and nothing is asked."""
    assert await refusal(directory, make_site(), value) == "Auth error: token cannot be sent in an HTTP header"
    assert await refusal(directory, make_site(), "t", value) == "Auth error: meta cannot be sent in an HTTP header"
    assert backend.requests == []


async def test_latin_1_is_sent_as_latin_1(backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite) -> None:
    """Letters such as é leave as the one byte that socket.io-webservice sends."""
    await directory.fetch_rooms(make_site(), "café", None)
    assert backend.requests[0].headers["authorization"] == b"Token caf\xe9"


async def test_equal_questions_share_one_request(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite
) -> None:
    """Questions equal in site, token and meta at one moment are one request; any difference makes another."""
    backend.gate = asyncio.Event()
    questions = [(make_site(), "a", None)] * 3 + [(make_site(), "b", None), (make_site(), "a", "m")]
    questions.append((make_site("other"), "a", None))
    asked = asyncio.gather(*(directory.fetch_rooms(*question) for question in questions))
    await backend.has_requests(4)
    backend.gate.set()
    answers = await asked
    assert len(backend.requests) == 4
    answers[0].append("mine")
    assert answers[1] == []


async def test_answers_are_not_kept(backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite) -> None:
    """A question after the answer is a new request: rooms may have changed."""
    await directory.fetch_rooms(make_site(), "a", None)
    backend.answer = http_answer(b'["new"]')
    assert await directory.fetch_rooms(make_site(), "a", None) == ["new"]


async def test_cancelled_caller_leaves_the_others_their_answer(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite
) -> None:
    """The first caller may give up; the request goes on for the callers that joined."""
    backend.gate = asyncio.Event()
    backend.answer = http_answer(b'["user_8"]')
    first, second = (asyncio.create_task(directory.fetch_rooms(make_site(), "a", None)) for _ in range(2))
    await backend.has_requests(1)
    first.cancel()
    backend.gate.set()
    assert await second == ["user_8"]
    assert first.cancelled()


async def test_refusal_reaches_every_caller(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite
) -> None:
    """Callers who share a request get an error each, not one with a shared traceback."""
    backend.answer = http_answer(b"", "401 Unauthorized")
    first, second = await asyncio.gather(
        *(directory.fetch_rooms(make_site(), "a", None) for _ in range(2)), return_exceptions=True
    )
    assert isinstance(first, AuthRefused)
    assert isinstance(second, AuthRefused)
    assert first is not second


async def test_slow_site_holds_up_itself_alone(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite
) -> None:
    """Each site has its own turns: a site that has used all of its own takes none of another's."""
    backend.gate = asyncio.Event()
    slow_site = make_site("slow", auth_concurrency=5)
    slow = asyncio.gather(*(directory.fetch_rooms(slow_site, str(i), None) for i in range(15)))
    await backend.has_requests(5)
    other = asyncio.create_task(directory.fetch_rooms(make_site("other"), "a", None))
    await backend.has_requests(6)
    assert backend.most_at_once == 6
    backend.gate.set()
    assert await other == []
    assert await slow == [[]] * 15


async def test_a_storm_gets_in(backend: Backend, make_site: MakeSite) -> None:
    """5,000 users at once all get their rooms from a backend that takes 20 ms, with at most 64 requests at once."""
    counts = Counts()
    directory = HttpRoomDirectory(timeout_seconds=60.0, counts=counts)
    backend.delay_seconds = 0.02
    backend.answer = http_answer(b'["user_8"]')
    site = make_site()
    answers = await asyncio.gather(*(directory.fetch_rooms(site, str(number), None) for number in range(5_000)))
    assert answers == [["user_8"]] * 5_000
    assert (len(backend.requests), backend.most_at_once) == (5_000, 64)
    assert counts.of("newsite").part(BackendCounts).auths == {"known": 5_000}
    assert counts.of("newsite").part(BackendCounts).auths_waiting == 0
    assert sum(counts.of("newsite").part(BackendCounts).auth_wait_seconds.buckets) == 5_000 - 64
    await directory.aclose()


async def test_who_goes_away_leaves_the_row(backend: Backend, make_site: MakeSite) -> None:
    """A question that waits for its turn is cancelled with its last caller, and never reaches the backend."""
    counts = Counts()
    directory = HttpRoomDirectory(timeout_seconds=60.0, counts=counts)
    backend.gate = asyncio.Event()
    site = make_site(auth_concurrency=1)
    first = asyncio.create_task(directory.fetch_rooms(site, "first", None))
    await backend.has_requests(1)
    gone = [asyncio.create_task(directory.fetch_rooms(site, "gone", None)) for _ in range(2)]
    halved = [asyncio.create_task(directory.fetch_rooms(site, "halved", None)) for _ in range(2)]
    await until(lambda: counts.of("newsite").part(BackendCounts).auths_waiting == 2, "both questions to wait")
    for task in (*gone, halved[0]):
        task.cancel()
    await until(lambda: counts.of("newsite").part(BackendCounts).auths_waiting == 1, "one to leave")
    # The same question, asked again afterwards, is a new one.
    again = asyncio.create_task(directory.fetch_rooms(site, "gone", None))
    backend.gate.set()
    assert [await first, await halved[1], await again] == [[], [], []]
    assert [request.headers["authorization"] for request in backend.requests] == [
        b"Token first",
        b"Token halved",
        b"Token gone",
    ]
    await directory.aclose()


async def test_who_waits_too_long_is_told(backend: Backend, make_site: MakeSite) -> None:
    """A connect whose turn does not come in time is an `Auth error` that says so; the backend is not asked."""
    directory = HttpRoomDirectory(timeout_seconds=60.0, wait_seconds=0.05)
    backend.gate = asyncio.Event()
    site = make_site(auth_concurrency=1)
    first = asyncio.create_task(directory.fetch_rooms(site, "first", None))
    await backend.has_requests(1)
    assert await refusal(directory, site, "second") == "Auth error: too many are connecting, try again later"
    backend.gate.set()
    assert await first == []
    assert len(backend.requests) == 1
    await directory.aclose()


@pytest.mark.parametrize("answer", [http_answer(b"", "503 Service Unavailable"), b""])
async def test_backend_that_is_down_is_left_alone(
    backend: Backend, make_site: MakeSite, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After many failures in a row (5xx, or no answer) users are refused at once. After a pause one request is made,
    and its answer lets the others in again."""
    monkeypatch.setattr(breaker, "FIRST_PAUSE_SECONDS", 0.5)
    counts = Counts()
    directory = HttpRoomDirectory(timeout_seconds=60.0, counts=counts)
    site = make_site()
    backend.answer = answer
    for number in range(breaker.FAILURES):
        assert "does not answer" not in await refusal(directory, site, str(number))
    seen = len(backend.requests)
    assert await refusal(directory, site) == "Auth error: the site's backend does not answer, try again later"
    assert (len(backend.requests), counts.of("newsite").part(BackendCounts).auth_breaker) == (seen, 2)
    backend.answer = http_answer(b'["user_8"]')
    deadline = asyncio.get_running_loop().time() + 30
    while counts.of("newsite").part(BackendCounts).auth_breaker and asyncio.get_running_loop().time() < deadline:
        with contextlib.suppress(AuthRefused):
            await directory.fetch_rooms(site, "probe", None)
    assert await directory.fetch_rooms(site, "a", None) == ["user_8"]
    # The probe, and this one.
    assert len(backend.requests) == seen + 2
    await directory.aclose()


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found", "429 Too Many Requests"])
async def test_refusals_never_keep_others_out(backend: Backend, make_site: MakeSite, status: str) -> None:
    """Neither any number of 4xx answers nor tokens that no header can carry open the breaker: the backend is up."""
    directory = HttpRoomDirectory(timeout_seconds=60.0)
    site = make_site()
    backend.answer = http_answer(b"", status)
    for number in range(breaker.FAILURES + 5):
        await refusal(directory, site, str(number))
        await refusal(directory, site, f"{number}\n")
    backend.answer = http_answer(b'["user_8"]')
    assert await directory.fetch_rooms(site, "a", None) == ["user_8"]
    await directory.aclose()


async def test_log_names_the_site_and_no_secret(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite, logged: list[dict[str, object]]
) -> None:
    """A failure is logged with site, reason and the library's error; token and URL are not."""
    backend.answer = b""
    await refusal(directory, make_site(auth_url=f"{backend.url}/?key=hidden"), "12345")
    assert [(line["event"], line["site"], line["reason"]) for line in logged] == [
        ("auth failed", "newsite", "connection failed")
    ]
    assert "12345" not in str(logged)
    assert "hidden" not in str(logged)


async def test_log_has_the_words_of_the_system(
    directory: HttpRoomDirectory, make_site: MakeSite, logged: list[dict[str, object]]
) -> None:
    """The log line about a backend that cannot be reached says why, beside the library's class of error."""
    await refusal(directory, make_site(auth_url="http://127.0.0.1:1/?key=hidden"), "12345")
    await refusal(directory, make_site(auth_url="http://nowhere.invalid/?key=hidden"), "12345")
    words = [str(line["error"]) for line in logged]
    assert re.fullmatch(r"\w+: .*(refused|Connect call failed).*", words[0])
    assert re.fullmatch(r"\w+: .*(not known|resolution).*", words[1])
    assert "12345" not in str(logged)
    assert "hidden" not in str(logged)


async def test_close_ends_what_is_in_flight(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite
) -> None:
    """aclose ends the requests in flight."""
    backend.gate = asyncio.Event()
    asked = asyncio.create_task(directory.fetch_rooms(make_site(), "a", None))
    await backend.has_requests(1)
    await directory.aclose()
    with pytest.raises(asyncio.CancelledError):
        await asked


async def warm(backend: Backend, directory: HttpRoomDirectory, site: Site) -> None:
    """Leaves an idle connection to the backend."""
    await directory.fetch_rooms(site, "first", None)
    backend.requests.clear()


async def test_no_task_where_a_connection_is_idle(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite
) -> None:
    """A question on an idle connection is asked within the call; both ways send the same request."""
    site = make_site()
    await directory.fetch_rooms(site, "a", "m")
    backend.gate = asyncio.Event()
    tasks = asyncio.all_tasks()
    asked = asyncio.create_task(directory.fetch_rooms(site, "a", "m"))
    await backend.has_requests(2)
    assert asyncio.all_tasks() - tasks == {asked}
    backend.gate.set()
    assert await asked == []
    assert backend.connections == 1
    first, second = backend.requests
    assert (first.target, first.headers) == (second.target, second.headers)


async def test_idle_connection_that_the_backend_has_closed(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite
) -> None:
    """The question is asked once more on a new connection; a second cut is a refusal."""
    counts = Counts()
    directory._counts = counts
    site = make_site()
    await warm(backend, directory, site)
    backend.cuts = 1
    assert await directory.fetch_rooms(site, "a", None) == []
    assert len(backend.requests) == 2
    backend.cuts = 2
    assert await refusal(directory, site) == "Auth error: connection failed"
    assert counts.of("newsite").part(BackendCounts).auths == {"known": 2, "failed": 1}
    assert counts.of("newsite").part(BackendCounts).auths_in_flight == 0


async def test_time_out_on_an_idle_connection(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite
) -> None:
    """A backend that does not answer there is refused alike, and its place is free again."""
    site = make_site(auth_concurrency=1)
    await warm(backend, directory, site)
    backend.gate = asyncio.Event()
    assert await refusal(directory, site) == "Auth error: timed out"
    backend.gate = None
    assert await directory.fetch_rooms(site, "a", None) == []


async def test_cancelled_callers_on_an_idle_connection(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite
) -> None:
    """A request that was sent goes on without its caller; whoever asks the same meanwhile gets its answer."""
    site = make_site()
    await warm(backend, directory, site)
    backend.gate = asyncio.Event()
    first = asyncio.create_task(directory.fetch_rooms(site, "a", None))
    await backend.has_requests(1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = asyncio.create_task(directory.fetch_rooms(site, "a", None))
    await asyncio.sleep(0)
    backend.gate.set()
    assert await second == []
    assert len(backend.requests) == 1


async def test_close_ends_a_request_on_an_idle_connection(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite
) -> None:
    """aclose ends it as any other."""
    site = make_site()
    await warm(backend, directory, site)
    backend.gate = asyncio.Event()
    asked = asyncio.create_task(directory.fetch_rooms(site, "a", None))
    await backend.has_requests(1)
    await directory.aclose()
    with pytest.raises(asyncio.CancelledError):
        await asked


async def test_breaker_counts_idle_connections_too(
    backend: Backend, directory: HttpRoomDirectory, make_site: MakeSite
) -> None:
    """5xx answers on one kept connection open the breaker."""
    site = make_site()
    await warm(backend, directory, site)
    backend.answer = http_answer(b"", "503 Service Unavailable")
    for number in range(breaker.FAILURES):
        await refusal(directory, site, str(number))
    assert await refusal(directory, site) == "Auth error: the site's backend does not answer, try again later"
    assert (len(backend.requests), backend.connections) == (breaker.FAILURES, 1)
