"""The desk: it performs an operation for a caller, after every check, and writes down what was done.

Pages and API use this one way. It knows neither HTTP nor templates.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import structlog

from app.config.settings import Site
from app.console.operators import OperatorStore
from app.console.parameters import read_parameters
from app.errors import RecadoError, RequestRefused
from app.protocols.operations import Actor, Call, Operation
from app.protocols.turns import Turns

#: Requests of one operator under way on a node, and the time of one.
MAX_UNDER_WAY = 16
REQUEST_SECONDS = 10.0

_log = structlog.get_logger(__name__)


class Desk:
    """The operations of one node. Lives as long as the node."""

    def __init__(self, operations: Iterable[Operation], sites: Mapping[str, Site], operators: OperatorStore) -> None:
        """`sites` may grow and shrink."""
        self.operations = {operation.name: operation for operation in operations}
        self._sites = sites
        self._operators = operators
        self.turns = Turns(MAX_UNDER_WAY, REQUEST_SECONDS, "an operator")

    def sites_of(self, caller: Actor) -> list[str]:
        """The names of the sites that a caller may know of."""
        return sorted(name for name, site in self._sites.items() if not site.is_hidden and caller.knows(name))

    def may(self, caller: Actor, name: str) -> bool:
        """Whether there is such an operation, and the caller's role suffices for it."""
        operation = self.operations.get(name)
        return operation is not None and caller.role >= operation.role

    def suits(self, operation: Operation, name: str) -> bool:
        """Whether a site has what an operation is about."""
        site = self._sites.get(name)
        return site is not None and operation.suits(site)

    async def perform(self, operation: Operation, caller: Actor, given: Mapping[str, Any]) -> Any:
        """The answer of an operation. `given` holds also the names in its path. Raises RequestRefused, StoreError,
        JournalUnavailable."""
        check_role(operation, caller)
        refused = "failed"
        async with self.turns.turn(caller.name):
            try:
                answer = await operation.run(self._call(operation, caller, given))
                refused = ""
                return answer
            except RecadoError as error:
                refused = str(error)
                raise
            finally:
                if operation.is_action:
                    await self._write_down(operation, caller, given, refused)

    def _call(self, operation: Operation, caller: Actor, given: Mapping[str, Any]) -> Call:
        site: Site | None = None
        if operation.is_of_site:
            name = given.get("site", "")
            site = self._sites.get(name) if caller.knows(name) else None
            if site is None or site.is_hidden:
                # The same words for a site of others: nobody learns of it.
                raise RequestRefused("There is no such site.", "unknown_site", 404)
            given = {key: value for key, value in given.items() if key != "site"}
        call = Call(caller, read_parameters(operation, given), site)
        if site is not None and not operation.suits(site):
            raise RequestRefused("The site has nothing of the kind.", "unknown_path", 404)
        return call

    async def _write_down(self, operation: Operation, caller: Actor, given: Mapping[str, Any], refused: str) -> None:
        detail = {name: "***" if name in operation.secrets else value for name, value in given.items()}
        if refused:
            detail["refused"] = refused
        site = given.get("site") if operation.is_of_site else None
        target = " ".join(str(given.get(name, "")) for name in operation.path_names if name != "site")
        try:
            text = msgspec.json.encode(detail).decode()
            await self._operators.add_audit(caller.name, operation.name, site, target, text)
        except RecadoError as error:
            # It has happened: the log is the second place where it is found.
            _log.error("audit not written", operator=caller.name, action=operation.name, reason=str(error))


def check_role(operation: Operation, caller: Actor) -> None:
    """Raises RequestRefused when the caller's role does not suffice."""
    if caller.role < operation.role:
        raise RequestRefused(f"This needs the role {operation.role.name.lower()}.", "forbidden", 403)
