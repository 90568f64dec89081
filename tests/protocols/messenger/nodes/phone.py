"""A device of a messenger's user over all its connections: it keeps its session, its cursor and what it was told, comes
back after every cut, and acknowledges what it gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.chat import Scram, password_of
from tests.support.clients import POLLING, WEBSOCKET, Client, ClientKind, ConnectCall, Record
from tests.support.python_clients import PythonClients
from tests.support.waiting import eventually

#: An answer comes within this time, whatever is down.
_ANSWER_SECONDS = 30.0
_ENDS = ("disconnect", "closed", "transport_error")
KINDS = (ClientKind("python", WEBSOCKET), ClientKind("python", POLLING))


class Asked:
    """An event that was sent. Lives until its answer, or until its connection ends."""

    def __init__(self, client: Client, number: int) -> None:
        """Remember the connection."""
        self._client = client
        self._number = number

    def answer(self) -> dict[str, Any] | None:
        """Block until the answer; None: the connection ended before. AssertionError when neither happens in time."""

        def is_mine(record: Record) -> bool:
            return record.kind == "answer" and record.details["number"] == self._number

        def is_over(records: list[Record]) -> bool:
            return any(is_mine(one) or one.kind in _ENDS for one in records)

        records = self._client.records.wait_until(is_over, f"an answer at {self._client!r}", _ANSWER_SECONDS)
        found = next((one for one in records if is_mine(one)), None)
        return None if found is None else dict(found.details["answer"][0])


class Phone:
    """One device. Lives for one run; `close` ends its connection."""

    def __init__(
        self, clients: PythonClients, site: str, login: str, device: str, url: Callable[[], str | None]
    ) -> None:
        """`url` names the node for the next connection; None: no node lives."""
        self.login = login
        self.device = device
        self.kind = KINDS[0]
        self.session: str | None = None
        self.cursor: str | None = None
        #: The messages that it keeps, and the newest state of each receipt.
        self.kept: dict[int, dict[str, Any]] = {}
        self.receipts: dict[tuple[int, int, str], str] = {}
        #: The ids of messages that came as an event, in the order of their first arrival, and their newest content by
        #: events alone; the receipts by events alone.
        self.arrived: list[int] = []
        self.live: dict[int, dict[str, Any]] = {}
        self.live_receipts: dict[tuple[int, int, str], str] = {}
        #: Whether a `_resync` came: its queue was gone, so that some of it came by `sync` alone.
        self.was_lost = False
        #: Whether the server has let it in at least once.
        self.has_entered = False
        #: The server may end its session.
        self.may_be_void = False
        self.connects = 0
        self._clients = clients
        self._site = site
        self._url = url
        self._client: Client | None = None
        self._seen = 0
        self._of_connection: set[int] = set()

    @property
    def is_on(self) -> bool:
        """Whether it is connected, as far as it knows."""
        if self._client is None or self._clients.has_lost(self._client.name):
            return False
        return not any(record.kind in _ENDS for record in self._client.records.snapshot())

    def come(self) -> bool:
        """Connect, unless it is connected; whether it is in."""
        if self.is_on:
            return True
        self.leave()
        url = self._url()
        if url is None:
            return False
        auth: dict[str, Any] = {"deviceId": self.device}
        if self.session is not None:
            auth["session"] = self.session
        self._client = self._clients.connect(ConnectCall(self.kind, url, self._site, auth=auth))
        self._seen, self._of_connection = 0, set()
        record = self._wait("an answer to CONNECT", lambda one: one.kind in ("connect", "refused"))
        if record is None:
            return False
        if record.kind == "refused":
            assert record.details["text"] == "session_void", record
            assert self.may_be_void, f"the session of {self.login} was void"
            self.session = None
            self.leave()
            return False
        if self.session is None and not self._log_in():
            return False
        settings = self._wait("_settings", lambda one: one.kind == "event" and one.details["event"] == "_settings")
        if settings is None:
            return False
        self.session = settings.details["args"][0]["session"]
        self.may_be_void = False
        self.has_entered = True
        self.connects += 1
        return True

    def begin(self, event: str, data: Any) -> Asked | None:
        """Send an event; None: it is not connected."""
        if not self.is_on or self._client is None:
            return None
        try:
            return Asked(self._client, self._client.begin_ask(event, data))
        except Exception:
            # The library raises errors of many kinds once its connection has ended.
            return None

    def ask(self, event: str, data: Any) -> dict[str, Any] | None:
        """Send an event and wait for its answer; None: the connection ended before."""
        asked = self.begin(event, data)
        answer = None if asked is None else asked.answer()
        self.read()
        return answer

    def leave(self) -> None:
        """End the connection, if there is one; its session stays."""
        self.read()
        if self._client is not None:
            client, self._client = self._client, None
            client.forget()
            self._take(client)
            self._seen = 0

    close = leave

    def read(self) -> None:
        """Take in what has come."""
        if self._client is not None:
            self._take(self._client)

    def keep(self, part: dict[str, Any]) -> None:
        """Take in a part of a synchronisation."""
        for room in part["rooms"]:
            if room.get("deleted"):
                gone = [id for id, one in self.kept.items() if one.get("to") == {"room": room["id"]}]
                for id in gone:
                    del self.kept[id]
        for message in part["messages"]:
            self._keep(self.kept, message)
        for receipt in part["receipts"]:
            self._note(self.receipts, receipt)
        self.cursor = part["cursor"]

    def _log_in(self) -> bool:
        scram = Scram(self.login, password_of(self.login))
        first = self.ask("login", {"data": scram.first})
        if first is None or not first["ok"]:
            self.leave()
            return False
        answer = self.ask("proof", {"data": scram.final(first["data"])})
        if answer is None or not answer["ok"]:
            self.leave()
            return False
        scram.check(answer["data"])
        return True

    def _wait(self, what: str, matches: Callable[[Record], bool]) -> Record | None:
        """The first record that matches; None: the connection ended before."""
        assert self._client is not None
        client = self._client

        def is_over() -> bool:
            is_lost = self._clients.has_lost(client.name)
            return is_lost or any(matches(one) or one.kind in _ENDS for one in client.records.snapshot())

        eventually(is_over, f"{what} at {client!r}", _ANSWER_SECONDS)
        return next((one for one in client.records.snapshot() if matches(one)), None)

    def _take(self, client: Client) -> None:
        events = client.events()
        for event in events[self._seen :]:
            entries = event.args[0] if event.name == "_batch" else [[event.name, *event.args]]
            for name, *args in entries:
                self._hear(name, args)
        self._seen = len(events)

    def _hear(self, name: str, args: list[Any]) -> None:
        if name == "_resync":
            self.was_lost = True
        elif name == "message":
            message = args[0]
            assert message["id"] not in self._of_connection, f"{message['id']} came twice on one connection"
            self._of_connection.add(message["id"])
            if message["id"] not in self.live:
                self.arrived.append(message["id"])
                self.live[message["id"]] = message
            self._keep(self.kept, message)
        elif name == "message_changed":
            self.live[args[0]["id"]] = args[0]
            self._keep(self.kept, args[0])
        elif name == "receipt":
            self._note(self.live_receipts, args[0])
            self._note(self.receipts, args[0])
        elif name == "directory":
            gone = {room["id"] for room in args[0].get("rooms", ()) if room.get("deleted")}
            self.kept = {id: one for id, one in self.kept.items() if one.get("to", {}).get("room") not in gone}

    @staticmethod
    def _keep(store: dict[int, dict[str, Any]], message: dict[str, Any]) -> None:
        """Keep a message, unless a newer form of it is there."""
        old = store.get(message["id"])
        if old is not None and old.get("deleted"):
            return
        is_older = old is not None and (message.get("changed_at") or 0) < (old.get("changed_at") or 0)
        if message.get("deleted") or not is_older:
            store[message["id"]] = message

    @staticmethod
    def _note(store: dict[tuple[int, int, str], str], receipt: dict[str, Any]) -> None:
        for id in receipt["ids"]:
            key = (id, receipt["user"], receipt["device"])
            if store.get(key) != "read":
                store[key] = receipt["state"]
