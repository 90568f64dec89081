"""Transfers as operators see them, over pages and API."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert

from app.clock import rfc3339
from app.journal.tables import sites, transfers
from tests.console.visitor import ConsoleNode, bearer

SCRIPT = "<script>alert(1)</script>"
ROW: dict[str, Any] = {
    "site_id": 1,
    "user": "user_1",
    "device": "phone",
    "app": "notes",
    "node": "aa",
    "kind": "upload",
    "file": "f1",
}
TIMES: dict[str, Any] = {"bytes": 5_000_000, "ms": 400, "client_ms": 450, "is_resumed": True}


async def add_transfers(node: ConsoleNode, count: int, **values: Any) -> None:
    """Write transfers of shop, and one of news, into the journal."""
    row = ROW | TIMES | values
    async with node.engine.begin() as sql:
        await sql.execute(insert(sites), [{"id": 1, "name": "shop"}, {"id": 2, "name": "news"}])
        await sql.execute(insert(transfers), [{**row, "at": number} for number in range(count)])
        await sql.execute(insert(transfers), [{**row, "site_id": 2, "at": 99, "kind": "download"}])


async def test_every_transfer(node: ConsoleNode) -> None:
    """The list has the transfers, newest first, page by page, with the speed; and those that pass a filter."""
    await add_transfers(node, 5)
    await node.visitor("ana")
    client, headers = node.client(), bearer(await node.token("ana"))
    found, query = [], {"limit": "2", "site": "shop"}
    while True:
        answer = (await client.get("/api/v1/transfers", params=query, headers=headers)).json()
        found += answer["items"]
        if answer["cursor"] is None:
            break
        query["cursor"] = answer["cursor"]
    assert [row["at"] for row in found] == [rfc3339(number) for number in (4, 3, 2, 1, 0)]
    told: dict[str, Any] = {
        "site": "shop",
        "user": "user_1",
        "device": "phone",
        "application": "notes",
        "node": "aa",
        "file": "f1",
    }
    told |= {"direction": "upload", "bytes": 5_000_000, "ms": 400, "client_ms": 450, "resumed": True}
    assert found[0] == told | {"mb_per_second": 12.5, "id": found[0]["id"], "at": found[0]["at"]}
    filters = {"direction": ("download", 1), "user": ("user_2", 0), "device": ("phone", 6), "file": ("f1", 6)}
    for name, (value, count) in filters.items():
        answer = (await client.get("/api/v1/transfers", params={name: value}, headers=headers)).json()
        assert len(answer["items"]) == count, name


async def test_times_that_are_not_known(node: ConsoleNode) -> None:
    """A transfer without a time, or one of no time, has no speed."""
    await add_transfers(node, 1, ms=0, client_ms=None)
    await node.visitor("ana")
    answer = await node.client().get("/api/v1/transfers", headers=bearer(await node.token("ana")))
    assert {row["mb_per_second"] for row in answer.json()["items"]} == {None}


async def test_an_operator_of_one_site(node: ConsoleNode) -> None:
    """An operator of some sites sees the transfers of these, and asks for no others."""
    await add_transfers(node, 2)
    visitor = await node.visitor("ben", "viewer", ("news",))
    assert "download" in (await visitor.get("/transfers")).text
    assert (await visitor.get("/transfers?site=shop")).status_code == 404
    headers = bearer(await node.token("ben"))
    answer = await node.client().get("/api/v1/transfers", headers=headers)
    assert [row["site"] for row in answer.json()["items"]] == ["news"]


async def test_texts_are_no_markup(node: ConsoleNode) -> None:
    """Devices and applications are a stranger's texts: the page shows them as text."""
    await add_transfers(node, 1, device=SCRIPT, app=SCRIPT, user=SCRIPT)
    page = await (await node.visitor("ana")).get("/transfers")
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert page.text.count("&lt;script&gt;alert") >= 3
