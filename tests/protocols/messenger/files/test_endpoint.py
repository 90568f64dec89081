"""Files over HTTP: the methods of tus, downloads, and the refusals of both, against the product's HTTP server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from app.journal.tables import transfers
from app.protocols.messenger.files import links, uploads
from app.protocols.messenger.files.body import UploadBody
from app.protocols.messenger.files.ports import FilesFull, FilesUnavailable
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_files
from app.protocols.messenger.settings import Messenger
from tests.protocols.messenger.files.conftest import (
    ANN,
    BOB,
    BYTES,
    PART_BYTES,
    PATH,
    TUS,
    FilesClient,
    files_of,
    metadata,
)
from tests.support.file_site import SITE
from tests.support.waiting import until
from tests.transport.serving import Peer

SAVED = "attachment; filename="
NOBODY = {"authorization": ""}


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code of a refusal."""
    return answer.status_code, answer.json()["error"]["code"]


async def row_of(files: FilesClient, path: str) -> Any:
    """The row of a file."""
    async with files.site.sql.reading(files.site.site) as (sql, _):
        return (await sql.execute(select(chat_files).where(chat_files.c.id == files.id_of(path)))).one_or_none()


async def change_row(files: FilesClient, path: str, **values: Any) -> None:
    """Write into the row of a file."""
    async with files.site.sql.writing(files.site.site) as (sql, _):
        await sql.execute(update(chat_files).where(chat_files.c.id == files.id_of(path)).values(**values))


async def transfers_of(files: FilesClient) -> list[Any]:
    """The rows of transfers, in their order."""
    async with files.site.sql.reading(files.site.site) as (sql, _):
        return list(await sql.execute(select(transfers).order_by(transfers.c.id)))


def parts_on_disk(files: FilesClient) -> list[Path]:
    """The files below the folder of all parts."""
    return [path for path in files.site.folder.rglob("*") if path.is_file()]


async def stored_parts(files: FilesClient) -> int:
    """How many parts the store holds."""
    if files.site.settings.files is True:
        return len(parts_on_disk(files))
    store: Any = files.site.store
    return sum([len(page) async for page in store._store.list()])


# Uploads


async def test_upload_and_download(any_files: FilesClient) -> None:
    """Bytes that were uploaded in parts are downloaded whole, and nothing else stays in the store."""
    data = random.randbytes(3 * PART_BYTES + 17)
    path = await any_files.upload(data, filename="a.png", filetype="image/png")
    answer = await any_files.http.get(path, headers=ANN)
    assert (answer.status_code, answer.content) == (200, data)
    assert answer.headers["content-type"] == "image/png"
    assert await stored_parts(any_files) == 4


async def test_many_short_requests_make_few_parts(any_files: FilesClient) -> None:
    """Bytes that come in many short requests end in few parts, which hold exactly these bytes."""
    data = random.randbytes(PART_BYTES + 5_000)
    path = await any_files.create(len(data))
    for start in range(0, len(data), 10_000):
        answer = await any_files.patch(path, start, data[start : start + 10_000])
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(min(len(data), start + 10_000)))
    assert (await any_files.http.get(path, headers=ANN)).content == data
    assert await stored_parts(any_files) <= 2


async def test_abilities(files: FilesClient) -> None:
    """OPTIONS tells the version, the extensions and the bounds, without a session."""
    answer = await files.ask("OPTIONS", PATH, NOBODY | {"tus-resumable": ""})
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert answer.headers["tus-extension"] == "creation,creation-with-upload,expiration,termination,checksum"
    assert answer.headers["tus-max-size"] == str(Messenger().file_max_bytes)
    assert "sha1" in answer.headers["tus-checksum-algorithm"].split(",")


async def test_offset(files: FilesClient) -> None:
    """HEAD tells the offset, the size, the time that is left and the metadata as sent; nobody keeps the answer."""
    told = metadata(filename="ä.txt", other="x") | {"upload-length": "10"}
    path = (await files.ask("POST", PATH, told)).headers["location"]
    await files.patch(path, 0, b"12345")
    answer = await files.ask("HEAD", path)
    assert (answer.headers["upload-offset"], answer.headers["upload-length"]) == ("5", "10")
    assert answer.headers["upload-metadata"] == told["upload-metadata"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["upload-expires"].endswith("GMT")
    assert answer.headers["tus-resumable"] == "1.0.0"


async def test_creation_with_bytes(files: FilesClient) -> None:
    """A creation may bring the first bytes, or all of them."""
    answer = await files.ask("POST", PATH, BYTES | {"upload-length": "8"}, b"1234")
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, "4")
    assert await files.offset(answer.headers["location"]) == 4
    whole = await files.ask("POST", PATH, BYTES | {"upload-length": "4"}, b"1234")
    assert (await files.http.get(whole.headers["location"], headers=ANN)).content == b"1234"
    assert "upload-expires" not in whole.headers


async def test_empty_file(files: FilesClient) -> None:
    """A file without bytes is finished at once."""
    path = await files.create(0, filename="empty.txt", filetype="text/plain")
    answer = await files.http.get(path, headers=ANN)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    assert (await files.patch(path, 0, b"")).headers["upload-offset"] == "0"


async def test_a_longer_request_is_taken_up_to_a_part(any_files: FilesClient) -> None:
    """Of a PATCH that is longer than a part the server takes a part, and says where to go on."""
    data = random.randbytes(2 * PART_BYTES + 100)
    path = await any_files.create(len(data))
    answer = await any_files.patch(path, 0, data)
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(PART_BYTES))
    assert (await any_files.patch(path, PART_BYTES, data[PART_BYTES:])).headers["upload-offset"] == str(2 * PART_BYTES)
    await any_files.patch(path, 2 * PART_BYTES, data[2 * PART_BYTES :])
    assert (await any_files.http.get(path, headers=ANN)).content == data


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512", "md5"])
async def test_checksum(files: FilesClient, algorithm: str) -> None:
    """Bytes count only with the digest that was told: else the status is 460, and the offset stays."""
    right = base64.b64encode(hashlib.new(algorithm, b"12345").digest()).decode()
    path = await files.create(10)
    wrong = await files.patch(path, 0, b"12344", {"upload-checksum": f"{algorithm} {right}"})
    assert code_of(wrong) == (460, "checksum")
    assert await files.offset(path) == 0
    answer = await files.patch(path, 0, b"12345", {"upload-checksum": f"{algorithm} {right}"})
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, "5")
    assert len(parts_on_disk(files)) == 1


async def test_checksum_of_too_much(files: FilesClient) -> None:
    """A body with a checksum that is longer than a part is refused whole: its digest cannot be that of a part."""
    data = random.randbytes(PART_BYTES + 1)
    digest = base64.b64encode(hashlib.sha1(data).digest()).decode()
    path = await files.create(2 * PART_BYTES)
    answer = await files.patch(path, 0, data, {"upload-checksum": f"sha1 {digest}"})
    assert code_of(answer) == (413, "too_long")
    assert (await files.offset(path), parts_on_disk(files)) == (0, [])


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({"upload-length": ""}, (400, "bad_request")),
        ({"upload-length": "-1"}, (400, "bad_request")),
        ({"upload-length": "1e3"}, (400, "bad_request")),
        ({"upload-length": "9" * 30}, (400, "bad_request")),
        ({"upload-length": "1073741825"}, (413, "too_long")),
        ({"upload-length": "1", "upload-defer-length": "1"}, (400, "bad_request")),
        ({"upload-length": "1", "upload-metadata": "filename ???"}, (400, "bad_request")),
        ({"upload-length": "1", "upload-metadata": "a YQ==,a YQ=="}, (400, "bad_request")),
        ({"upload-length": "1", "upload-metadata": "a " + "YWFh" * 2_000}, (400, "too_long")),
        ({"upload-length": "1", "upload-metadata": ",".join(f"a{n}" for n in range(40))}, (400, "too_many")),
        ({"upload-length": "1", "tus-resumable": "0.2.2"}, (412, "bad_version")),
        ({"upload-length": "1", "tus-resumable": ""}, (412, "bad_version")),
    ],
)
async def test_wrong_creations(files: FilesClient, headers: dict[str, str], answer: tuple[int, str]) -> None:
    """A creation that breaks a rule is refused with its code, and nothing begins."""
    refused = await files.ask("POST", PATH, headers)
    assert code_of(refused) == answer
    if answer[0] == 412:
        assert refused.headers["tus-version"] == "1.0.0"
    async with files.site.sql.reading(files.site.site) as (sql, _):
        assert (await sql.execute(select(chat_files.c.id))).all() == []


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({"upload-offset": "1"}, (409, "wrong_offset")),
        ({"upload-offset": ""}, (400, "bad_request")),
        ({"content-type": "text/plain"}, (415, "bad_request")),
        ({"content-type": ""}, (415, "bad_request")),
        ({"upload-checksum": "crc32 AAAA"}, (400, "bad_request")),
        ({"upload-checksum": "sha1 AAAA"}, (400, "bad_request")),
        ({"upload-checksum": "sha1"}, (400, "bad_request")),
        ({"tus-resumable": ""}, (412, "bad_version")),
    ],
)
async def test_wrong_bytes(files: FilesClient, headers: dict[str, str], answer: tuple[int, str]) -> None:
    """A PATCH that breaks a rule is refused with its code, and stores nothing."""
    path = await files.create(10)
    assert code_of(await files.patch(path, 0, b"12345", headers)) == answer
    assert (await files.offset(path), parts_on_disk(files)) == (0, [])


async def test_more_bytes_than_missing(files: FilesClient) -> None:
    """A body that is longer than what is missing is refused when it says so; else only what is missing is taken."""
    path = await files.create(4)
    assert code_of(await files.patch(path, 0, b"12345")) == (413, "too_long")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"1234"
        yield b"5"

    headers = ANN | TUS | BYTES | {"upload-offset": "0"}
    answer = await files.http.patch(path, content=chunks(), headers=headers)
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, "4")
    assert (await files.http.get(path, headers=ANN)).content == b"1234"


async def test_method_in_a_header(files: FilesClient) -> None:
    """X-HTTP-Method-Override counts in the place of the method, for clients that know POST alone."""
    path = await files.create(4)
    headers = BYTES | {"upload-offset": "0", "x-http-method-override": "PATCH"}
    assert (await files.ask("POST", path, headers, b"1234")).headers["upload-offset"] == "4"
    assert (await files.ask("POST", path, {"x-http-method-override": "DELETE"})).status_code == 204
    assert (await files.ask("PUT", path)).status_code == 405
    # Methods that every client knows do not stand in a header: the answer to a POST has a body.
    for other in ("HEAD", "GET"):
        assert (await files.ask("POST", path, {"x-http-method-override": other})).status_code == 400


async def test_quota(sql: ChatSql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user begins no upload past the bytes of all its files, or past the bound of unfinished ones; others do."""
    monkeypatch.setattr("app.protocols.messenger.files.records.MAX_UNFINISHED", 2)
    async with files_of(sql, tmp_path, Messenger(file_quota_bytes=20_000)) as files:
        first = await files.create(10_000)
        assert code_of(await files.ask("POST", PATH, {"upload-length": "10001"})) == (413, "quota")
        await files.create(1)
        assert code_of(await files.ask("POST", PATH, {"upload-length": "1"})) == (403, "too_many")
        assert (await files.ask("POST", PATH, BOB | {"upload-length": "1"})).status_code == 201
        await files.ask("DELETE", first)
        await files.create(10_001)


# Breaks, races and ends


async def test_a_connection_that_breaks(any_files: FilesClient) -> None:
    """The bytes that came before a connection broke count: HEAD tells them, and the upload goes on behind them. The
    transfer is one that was resumed."""
    data = random.randbytes(PART_BYTES)
    path = await any_files.create(len(data))
    peer = await any_files.served.socket()
    head = begin_patch(peer, path, 0, len(data))
    peer.writer.write(head + data[:30_000])
    await until(lambda: any_files.site.bytes_read[path] == 30_000, "the bytes to be read")
    peer.close()
    await until(lambda: not any_files.site.under_way[path], "the request to end")
    assert await any_files.offset(path) == 30_000
    await any_files.patch(path, 30_000, data[30_000:])
    assert (await any_files.http.get(path, headers=ANN)).content == data
    (row,) = [row for row in await transfers_of(any_files) if row.kind == "upload"]
    assert (row.is_resumed, row.bytes) == (True, PART_BYTES)


def begin_patch(peer: Peer, path: str, offset: int, length: int) -> bytes:
    """The head of a PATCH with these bytes."""
    headers = ANN | TUS | BYTES | {"host": "x", "upload-offset": str(offset), "content-length": str(length)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"PATCH {path} HTTP/1.1\r\n{lines}\r\n".encode()


async def test_a_new_request_ends_the_old_one(any_files: FilesClient) -> None:
    """A client that asks for the offset while its lost connection still brings bytes gets the offset behind these, and
    goes on at once."""
    data = random.randbytes(PART_BYTES)
    path = await any_files.create(len(data))
    peer = await any_files.served.socket()
    peer.writer.write(begin_patch(peer, path, 0, len(data)) + data[:20_000])
    await until(lambda: any_files.site.bytes_read[path] == 20_000, "the bytes to be read")
    assert await any_files.offset(path) == 20_000
    assert (await any_files.patch(path, 20_000, data[20_000:])).status_code == 204
    assert (await any_files.http.get(path, headers=ANN)).content == data
    assert (await peer.response())[0] == 204


async def test_a_slow_body(files: FilesClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its deadline a PATCH is answered with the offset that it has reached; one that brought nothing gets 408."""
    monkeypatch.setattr("app.protocols.messenger.files.endpoint.BODY_TIMEOUT_SECONDS", 0.3)
    path = await files.create(100)
    slow, silent = await files.served.socket(), await files.served.socket()
    slow.writer.write(begin_patch(slow, path, 0, 100) + b"12345")
    status, headers = await slow.response()
    assert (status, headers["upload-offset"]) == (204, "5")
    silent.writer.write(begin_patch(silent, path, 5, 95))
    assert (await silent.response())[0] == 408
    assert await files.offset(path) == 5


async def test_two_requests_for_the_same_bytes(any_files: FilesClient) -> None:
    """Of two nodes that take the same bytes at once one counts; the other refuses, and leaves no part."""
    site = any_files.site
    other = uploads.Uploads(site.book, site.store_of, "other")
    path = await any_files.create(2 * PART_BYTES)
    user = site.sessions.users["token-ann"]
    file = await site.uploads.find(site.site, user, any_files.id_of(path))
    outcomes = await asyncio.gather(
        *(
            one.append(site.site, user, file, whole(b"x" * PART_BYTES), None, PART_BYTES)
            for one in (site.uploads, other)
        ),
        return_exceptions=True,
    )
    assert sorted(getattr(outcome, "code", "stored") for outcome in outcomes) == ["stored", "wrong_offset"]
    assert await any_files.offset(path) == PART_BYTES
    assert await stored_parts(any_files) == 1


def whole(data: bytes) -> UploadBody:
    """A body that is here."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": data, "more_body": False}

    return UploadBody(receive, 30)


async def test_termination(any_files: FilesClient) -> None:
    """DELETE removes an upload, finished or not, with its parts and its row."""
    unfinished, finished = await any_files.create(10), await any_files.upload(b"12345")
    await any_files.patch(unfinished, 0, b"12345")
    for path in (unfinished, finished):
        assert (await any_files.ask("DELETE", path)).status_code == 204
        assert await row_of(any_files, path) is None
        assert (await any_files.ask("HEAD", path)).status_code == 404
        assert (await any_files.http.get(path, headers=ANN)).status_code == 404
        assert code_of(await any_files.patch(path, 5, b"12345")) == (404, "unknown_file")
    assert await stored_parts(any_files) == 0


async def test_termination_of_what_was_sent(files: FilesClient) -> None:
    """A file that a message carries stays."""
    path = await files.upload(b"12345")
    await change_row(files, path, sent_at=1)
    assert code_of(await files.ask("DELETE", path)) == (403, "was_sent")
    assert (await files.http.get(path, headers=ANN)).content == b"12345"


async def test_expiry(any_files: FilesClient) -> None:
    """An unfinished upload is refused once its time has passed, and a round removes it; finished ones and young ones
    stay."""
    old, young, finished = await any_files.create(10), await any_files.create(10), await any_files.upload(b"12345")
    for path in (old, young):
        await any_files.patch(path, 0, b"12345")
    await change_row(any_files, old, expires_at=1)
    assert code_of(await any_files.patch(old, 5, b"67890")) == (410, "expired")
    assert (await any_files.ask("HEAD", old)).status_code == 410
    assert await any_files.site.uploads.expire(any_files.site.site) == 1
    assert await row_of(any_files, old) is None
    assert await stored_parts(any_files) == 2
    assert await any_files.site.uploads.expire(any_files.site.site) == 0
    assert (await any_files.patch(young, 5, b"67890")).status_code == 204
    assert (await any_files.http.get(finished, headers=ANN)).status_code == 200


async def test_removal_that_fails_is_repeated(files: FilesClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose parts cannot be deleted is gone for its user at once, and the next round deletes them."""
    path = await files.upload(b"12345")

    async def fail(*_: Any) -> None:
        raise FilesUnavailable("no")

    with monkeypatch.context() as broken:
        broken.setattr(files.site.disk, "keep_only", fail)
        assert (await files.ask("DELETE", path)).status_code == 204
    assert (await files.http.get(path, headers=ANN)).status_code == 404
    assert len(parts_on_disk(files)) == 1
    assert await files.site.uploads.expire(files.site.site) == 1
    assert (parts_on_disk(files), await row_of(files, path)) == ([], None)


@pytest.mark.parametrize(("error", "answer"), [(FilesFull, (507, "full")), (FilesUnavailable, (503, "unavailable"))])
async def test_a_store_that_fails(
    files: FilesClient, monkeypatch: pytest.MonkeyPatch, error: type[Exception], answer: tuple[int, str]
) -> None:
    """While the store takes nothing the offset stays, and clients are told so with a status after which they come
    again."""
    path = await files.create(10)

    async def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr("app.protocols.messenger.files.disk_parts.DiskPartWriter.write", fail)
        assert code_of(await files.patch(path, 0, b"12345")) == answer
    assert (await files.offset(path), parts_on_disk(files)) == (0, [])
    assert (await files.patch(path, 0, b"12345")).status_code == 204


# Rights


async def test_without_a_session(files: FilesClient) -> None:
    """Nothing but OPTIONS is answered without a valid session."""
    path = await files.upload(b"12345")
    requests = [("POST", PATH), *((method, path) for method in ("HEAD", "PATCH", "DELETE", "GET", "POST"))]
    for method, where in requests:
        for token in ("", "Bearer", "Bearer wrong", "Basic token-ann", "token-ann", "Bearer t%F6k"):
            headers = {"authorization": token, "upload-length": "1", "upload-offset": "5", **BYTES}
            answer = await files.ask(
                method, where, {n: v.encode("latin-1").decode("latin-1") for n, v in headers.items()}
            )
            assert answer.status_code == 401, (method, token)
            assert answer.headers["www-authenticate"] == "Bearer"
    assert (await files.http.get(path, headers=ANN)).content == b"12345"


async def test_a_file_of_another(files: FilesClient) -> None:
    """The file of another user, by id, range, HEAD, PATCH or DELETE, looks like none at all; finished or not."""
    unfinished, finished = await files.create(10), await files.upload(b"12345")
    missing = PATH + "0" * 32
    asked = [
        ("GET", {}),
        ("GET", {"range": "bytes=0-1"}),
        ("GET", {"if-none-match": "*"}),
        ("HEAD", {}),
        ("HEAD", {"tus-resumable": ""}),
        ("PATCH", {"upload-offset": "0", **BYTES}),
        ("PATCH", {"upload-offset": "5", **BYTES}),
        ("DELETE", {}),
    ]
    for method, headers in asked:
        answers = [await files.ask(method, path, BOB | headers) for path in (unfinished, finished, missing)]
        assert {(answer.status_code, answer.content) for answer in answers} == {(404, answers[0].content)}, method
    assert await files.offset(unfinished) == 0
    assert (await files.http.get(finished, headers=ANN)).content == b"12345"


async def test_a_reader(files: FilesClient) -> None:
    """A user who sees a message with the file reads it, and may do nothing else with it; not before it is finished."""
    path = await files.create(5)
    files.site.rights.readers.add((2, files.id_of(path)))
    assert (await files.ask("GET", path, BOB)).status_code == 404
    await files.patch(path, 0, b"12345")
    assert (await files.ask("GET", path, BOB)).content == b"12345"
    for method, headers in (("HEAD", {}), ("PATCH", {"upload-offset": "5", **BYTES}), ("DELETE", {})):
        assert (await files.ask(method, path, BOB | headers)).status_code == 404
    files.site.rights.readers.clear()
    assert (await files.ask("GET", path, BOB)).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/shop/files/1",
        "/shop/files/..",
        "/shop/files/%2e%2e%2f%2e%2e%2fjournal.sqlite",
        "/shop/files/../../journal.sqlite",
        "/shop/files/" + "0" * 32 + "/x",
        "/shop/files/" + "0" * 31 + "G",
        "/shop/files/" + "0" * 33,
        "/shop/files/%00",
        "/shop/files/%ff%fe",
    ],
)
async def test_paths_that_are_no_files(files: FilesClient, path: str) -> None:
    """An id that is none is answered as an unknown one, before anything looks for it."""
    request = httpx.Request("GET", f"http://127.0.0.1:{files.served.port}/", headers=ANN)
    request.url = request.url.copy_with(raw_path=path.encode())
    assert (await files.http.send(request)).status_code == 404


async def test_links(files: FilesClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link counts for a minute, for its file and its user, for GET and HEAD alone."""
    path, other = await files.upload(b"12345"), await files.upload(b"67890")
    secret = await files.site.sql.secret_of(files.site.site)
    now = time.time_ns() // 1_000_000
    link = links.link_to(secret, SITE, files.id_of(path), 1, now)
    query = link.partition("?")[2]
    assert (await files.http.get(link)).content == b"12345"
    assert (await files.http.head(link)).status_code == 200
    assert (await files.http.get(link, headers={"range": "bytes=1-2"})).content == b"23"
    assert (await files.http.get(f"{other}?{query}")).status_code == 401
    assert (await files.http.delete(link, headers=TUS)).status_code == 401
    assert (await files.http.get(links.link_to(secret, SITE, files.id_of(path), 2, now))).status_code == 404
    assert (await files.http.get(links.link_to(secret, SITE, files.id_of(path), 1, now - 60_000))).status_code == 401
    assert (await files.http.get(f"{path}?link=1.1.ä")).status_code == 401
    assert (await files.http.get(f"{path}?link=")).status_code == 401


async def test_pages_of_other_origins(sql: ChatSql, tmp_path: Path) -> None:
    """A page of an origin that the site lists may ask and read the headers of tus; another one is refused."""
    async with files_of(sql, tmp_path, Messenger(), origins=("https://app.example",)) as files:
        listed, foreign = {"origin": "https://app.example"}, {"origin": "https://evil.example"}
        preflight = {"access-control-request-method": "PATCH", "access-control-request-headers": "upload-offset"}
        allowed = await files.http.options(PATH, headers=listed | preflight)
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        assert "PATCH" in allowed.headers["access-control-allow-methods"]
        assert "Upload-Offset" in allowed.headers["access-control-allow-headers"]
        made = await files.ask("POST", PATH, listed | {"upload-length": "1"})
        assert "Location" in made.headers["access-control-expose-headers"]
        answers = [
            await files.http.options(PATH, headers=foreign | preflight),
            await files.ask("POST", PATH, foreign | {"upload-length": "1"}),
        ]
        for answer in answers:
            assert code_of(answer) == (403, "foreign_origin")
            assert "access-control-allow-origin" not in answer.headers


async def test_site_without_files(sql: ChatSql, tmp_path: Path) -> None:
    """A site with `files: false` has no such paths."""
    async with files_of(sql, tmp_path, Messenger(files=False)) as files:
        assert (await files.http.get(PATH)).status_code == 404
        assert (await files.http.options(PATH)).status_code == 404


async def test_requests_under_way(files: FilesClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user has a bounded number of requests at once; a further one is told to come again, others are served."""
    monkeypatch.setattr("app.protocols.messenger.files.turns.MAX_REQUESTS_OF_USER", 1)
    path = await files.create(10)
    peer = await files.served.socket()
    peer.writer.write(begin_patch(peer, path, 0, 10) + b"1")
    await until(lambda: files.site.bytes_read[path] == 1, "the byte to be read")
    refused = await files.ask("POST", PATH, {"upload-length": "1"})
    assert (code_of(refused), refused.headers["retry-after"]) == ((503, "too_many"), "1")
    assert (await files.ask("POST", PATH, BOB | {"upload-length": "1"})).status_code == 201
    peer.writer.write(b"234567890")
    assert (await peer.response())[0] == 204
    assert (await files.ask("POST", PATH, {"upload-length": "1"})).status_code == 201


# Downloads


async def test_ranges(any_files: FilesClient) -> None:
    """A range gets exactly its bytes, also across parts; a wrong one gets 416, several ones the whole file."""
    data = random.randbytes(2 * PART_BYTES + 100)
    path = await any_files.upload(data)
    size = len(data)
    for first, last in ((0, 0), (PART_BYTES - 5, PART_BYTES + 5), (size - 1, size - 1), (100, size - 1)):
        answer = await any_files.http.get(path, headers=ANN | {"range": f"bytes={first}-{last}"})
        assert (answer.status_code, answer.content) == (206, data[first : last + 1])
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
        assert answer.headers["content-length"] == str(last - first + 1)
    beyond = await any_files.http.get(path, headers=ANN | {"range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    several = await any_files.http.get(path, headers=ANN | {"range": "bytes=0-1,5-6"})
    assert (several.status_code, several.content) == (200, data)


async def test_conditions(files: FilesClient) -> None:
    """A client that has the file gets 304; one that goes on with another file gets all of it."""
    path = await files.upload(b"1234567890")
    whole = await files.http.get(path, headers=ANN)
    etag = whole.headers["etag"]
    assert (await files.http.get(path, headers=ANN | {"if-none-match": etag})).status_code == 304
    going_on = ANN | {"range": "bytes=4-", "if-range": etag}
    assert (await files.http.get(path, headers=going_on)).content == b"567890"
    assert (await files.http.get(path, headers=going_on | {"if-range": '"other"'})).content == b"1234567890"
    assert (await files.http.get(path, headers=ANN | {"if-match": '"other"'})).status_code == 412


async def test_head_of_a_download(files: FilesClient) -> None:
    """HEAD without tus tells what GET would."""
    path = await files.upload(b"12345", filename="a.txt", filetype="text/plain")
    answer = await files.http.head(path, headers=ANN)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "5")
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("name", "kind", "served", "way"),
    [
        ("a.png", "image/png", "image/png", 'inline; filename="a.png"'),
        ("a.html", "text/html", "application/octet-stream", 'attachment; filename="a.html"'),
        ("a.svg", "image/svg+xml", "application/octet-stream", 'attachment; filename="a.svg"'),
        ("a.txt", "text/plain;charset=utf-7", "text/plain; charset=utf-8", 'inline; filename="a.txt"'),
        ("../../etc/passwd", "x", "application/octet-stream", 'attachment; filename="passwd"'),
        (
            'a"; b.exe',
            "",
            "application/octet-stream",
            "attachment; filename=\"a_; b.exe\"; filename*=UTF-8''a%22%3B%20b.exe",
        ),
        ("a\r\nSet-Cookie: x=1", "", "application/octet-stream", 'attachment; filename="aSet-Cookie: x=1"'),
        (
            "ä.txt",
            "image/png\r\nx: y",
            "application/octet-stream",
            "attachment; filename=\"a.txt\"; filename*=UTF-8''%C3%A4.txt",
        ),
    ],
)
async def test_names_and_types(files: FilesClient, name: str, kind: str, served: str, way: str) -> None:
    """The answer is a harmless one, whatever name and type a file was given."""
    path = await files.upload(b"<script>alert(1)</script>", filename=name, filetype=kind)
    answer = await files.http.get(path, headers=ANN)
    assert (answer.headers["content-type"], answer.headers["content-disposition"]) == (served, way)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert "set-cookie" not in answer.headers


async def test_a_reader_that_leaves(sql: ChatSql, tmp_path: Path) -> None:
    """A download whose client has left ends, and its row has the bytes that were sent. No socket takes all of them."""
    part = Messenger().file_part_bytes
    async with files_of(sql, tmp_path, Messenger()) as files:
        path = await files.create(8 * part)
        for number in range(8):
            await files.patch(path, number * part, bytes(part))
        peer = await files.served.socket()
        peer.pause_reading()
        peer.writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer token-ann\r\n\r\n".encode())
        await until(lambda: files.site.bytes_sent[path] > 0, "the download to begin")
        peer.close()
        await until(lambda: not files.site.under_way[path], "the download to end")
        (row,) = [row for row in await transfers_of(files) if row.kind == "download"]
        assert row.bytes < 8 * part


async def test_a_store_that_fails_in_between(files: FilesClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that cannot go on is cut off: its client sees that bytes are missing."""
    path = await files.upload(random.randbytes(8 * PART_BYTES))
    read = files.site.disk.read
    asked: list[int] = []

    async def fail_later(*arguments: Any) -> bytes:
        asked.append(1)
        if len(asked) > 3:
            raise FilesUnavailable("no")
        return await read(*arguments)

    monkeypatch.setattr(files.site.disk, "read", fail_later)
    with pytest.raises(httpx.RemoteProtocolError):
        await files.http.get(path, headers=ANN)


# Rows of transfers


async def test_transfers(any_files: FilesClient) -> None:
    """Each upload and each download leaves a row; the client adds the time that it has measured."""
    path = await any_files.upload(random.randbytes(PART_BYTES + 10))
    await any_files.http.get(path, headers=ANN | {"range": "bytes=10-19"})
    for direction, ms in (("upload", 123), ("download", 45)):
        told = await any_files.http.post(path, headers=ANN, json={"direction": direction, "ms": ms})
        assert told.status_code == 204
    up, down = await transfers_of(any_files)
    assert (up.kind, up.bytes, up.is_resumed, up.client_ms, up.user) == (
        "upload",
        PART_BYTES + 10,
        False,
        123,
        "user_1",
    )
    assert (up.user, up.device, up.app, up.node, up.file) == ("user_1", "phone", "tests", "node", any_files.id_of(path))
    assert up.ms > 0
    assert (down.kind, down.bytes, down.is_resumed, down.client_ms) == ("download", 10, True, 45)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"direction": "up", "ms": 1}', b'{"direction": "upload", "ms": -1}', b"[" * 200]
)
async def test_wrong_times(files: FilesClient, body: bytes) -> None:
    """A time that is none is refused; so is one of a file without a transfer, or of another user."""
    path = await files.upload(b"12345")
    assert code_of(await files.ask("POST", path, body=body)) == (400, "bad_request")
    assert (await files.ask("POST", path, body=b" " * 300)).status_code == 413
    right = b'{"direction": "download", "ms": 1}'
    assert (await files.ask("POST", path, body=right)).status_code == 404
    with contextlib.suppress(ValueError):
        assert (await files.ask("POST", path, BOB, right)).status_code == 404
