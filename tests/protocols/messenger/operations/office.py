"""The ground for tests of operations: a site with users, and an operator who performs operations on it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import structs

from app.config.settings import Site
from app.console.parameters import read_parameters
from app.errors import RequestRefused
from app.protocols.messenger.bounds import LEAST_ITERATIONS
from app.protocols.messenger.operations.changes import change_operations
from app.protocols.messenger.operations.made_passwords import FirstPasswords
from app.protocols.messenger.operations.parts import DirectoryParts
from app.protocols.messenger.operations.rooms import room_operations
from app.protocols.messenger.operations.users import user_operations
from app.protocols.messenger.settings import Messenger
from app.protocols.operations import Actor, Call, Role
from tests.protocols.messenger.directory.directory_ground import Company

_numbers = itertools.count(1)


def next_site() -> str:
    """The name of a site that no other test has."""
    return f"office{next(_numbers)}"


class Around:
    """The users who are online, and the logins that are blocked, as a test says."""

    def __init__(self) -> None:
        """Nobody."""
        self.here: set[int] = set()
        self.blocked: dict[str, int] = {}

    async def online(self, site: Site) -> set[int]:
        """The users who are online."""
        return set(self.here)

    async def online_among(self, site: Site, users: Sequence[int]) -> set[int]:
        """The users among these who are online."""
        return self.here & set(users)

    async def seconds_left(self, site: Site, login: str) -> int:
        """The seconds of a block."""
        return self.blocked.get(login, 0)

    async def lift(self, site: Site, login: str) -> bool:
        """Take a block away."""
        return self.blocked.pop(login, None) is not None


class Office:
    """A site and its operator. Lives for the test; `close` ends its connections."""

    def __init__(self, company: Company) -> None:
        """Called by `start`."""
        self.company = company
        self.around = Around()
        parts = DirectoryParts(company.sql, company.directory, self.around, self.around, FirstPasswords())
        found = [*user_operations(parts), *room_operations(parts), *change_operations(parts)]
        self.operations = {operation.name: operation for operation in found}

    @classmethod
    async def start(cls, url: str, name: str) -> Office:
        """A site without users."""
        company = await Company.open(url, name)
        company.site = structs.replace(company.site, sections={Messenger: Messenger(iterations=LEAST_ITERATIONS)})
        return cls(company)

    async def close(self) -> None:
        """End the connections."""
        await self.company.close()

    async def do(self, name: str, /, **given: Any) -> dict[str, Any]:
        """The answer of an operation."""
        operation = self.operations[name]
        actor = Actor("ana", Role.OPERATOR)
        answer = await operation.run(Call(actor, read_parameters(operation, given), self.company.site))
        assert isinstance(answer, dict)
        return answer

    async def refused(self, name: str, /, **given: Any) -> str:
        """The code of a refused operation."""
        with pytest.raises(RequestRefused) as caught:
            await self.do(name, **given)
        return f"{caught.value.status} {caught.value.code}"

    async def pages(self, name: str, /, **given: Any) -> list[list[int]]:
        """The ids of every page of a list."""
        found: list[list[int]] = []
        cursor: dict[str, str] = {}
        while True:
            answer = await self.do(name, **given, **cursor)
            found.append([item["id"] for item in answer["items"]])
            if answer["cursor"] is None:
                return found
            cursor = {"cursor": answer["cursor"]}
