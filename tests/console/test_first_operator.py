"""The administrator that the settings name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from app.config.settings import ConsoleSettings
from app.protocols.operations import Role
from tests.console.visitor import PASSWORD, ConsoleNode, Visitor
from tests.support.valkey import Valkey
from tests.support.waiting import until_answer

Start = Callable[[str], Awaitable[ConsoleNode]]


@pytest.fixture
async def start(valkey: Valkey, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a node whose settings name `root` with a password, on a database that has no tables at first. Returns when
    that password logs in."""
    nodes: list[ConsoleNode] = []

    async def start(password: str) -> ConsoleNode:
        console = ConsoleSettings(operator="root", operator_password=password)
        node = await ConsoleNode.start(valkey, f"sqlite:///{tmp_path / 'journal.sqlite'}", console=console)
        nodes.append(node)

        async def can_log_in() -> bool:
            # Tries before it is made count as failures.
            valkey.client.delete(*valkey.client.keys("recado:console:failures:*") or ["none"])
            return (await Visitor(node.client(), "root").log_in(password)).status_code == 303

        await until_answer(can_log_in, "the operator")
        return node

    yield start
    for node in nodes:
        await node.close()


async def test_it_is_made(start: Start) -> None:
    """A start on an empty database makes the tables and the administrator."""
    node = await start(PASSWORD)
    found = await node.operators.find("root")
    assert found is not None
    assert (found.role, found.sites) == (Role.ADMIN, None)


async def test_a_further_start_changes_nothing(start: Start) -> None:
    """A start with the same password keeps the sessions."""
    node = await start(PASSWORD)
    visitor = Visitor(node.client(), "root")
    await visitor.log_in()
    await start(PASSWORD)
    assert (await visitor.get("/tokens")).status_code == 200


async def test_another_password(start: Start) -> None:
    """A start with another password gives it to the operator, who is an administrator again, and ends its sessions."""
    node = await start(PASSWORD)
    visitor = Visitor(node.client(), "root")
    await visitor.log_in()
    await node.operators.change("root", ends_sessions=False, role=Role.VIEWER, is_disabled=True)
    await start("another password")
    found = await node.operators.find("root")
    assert found is not None
    assert (found.role, found.is_disabled) == (Role.ADMIN, False)
    assert (await visitor.get("/tokens")).status_code == 303
    assert (await visitor.log_in()).status_code == 401
