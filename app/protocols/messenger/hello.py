"""The words of a client that connects: its device, its program and its session. No I/O."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from app.clock import now_ms
from app.protocols.messenger.bounds import MAX_ABOUT_CHARACTERS, MAX_DEVICE_BYTES, MAX_TOKEN_CHARACTERS
from app.protocols.messenger.caller import ClientApp, ClientDevice
from app.protocols.messenger.chatter import Arrival
from app.socketio.socket_connection import ConnectRefused, ConnectRequest

#: The fields of a handshake's query that are read: clients of Engine.IO 3 have no other place for them.
QUERY_FIELDS = {"deviceId": MAX_DEVICE_BYTES, "session": MAX_TOKEN_CHARACTERS, "app": 1_024}
_EXACT = 2**53

_About = Annotated[str, Meta(max_length=MAX_ABOUT_CHARACTERS)]
_Amount = Annotated[float, Meta(ge=0, le=_EXACT)]


class _App(Struct):
    """`app`"""

    name: Annotated[str, Meta(min_length=1, max_length=MAX_ABOUT_CHARACTERS)]
    reference: _About = ""
    version: _About = ""


class _Device(Struct, rename="camel"):
    """`device`"""

    os: _About = ""
    os_version: _About = ""
    model: _About = ""
    memory: _Amount | None = None
    cores: _Amount | None = None


class Hello(Struct, frozen=True):
    """The words of one client. Its repr has no session, which is secret."""

    device_id: str
    session: str | None
    app: ClientApp | None
    machine: ClientDevice

    def __repr__(self) -> str:
        return f"Hello({self.device_id!r})"


def read_hello(request: ConnectRequest) -> Hello:
    """The client's words. Raises ConnectRefused with the field that is not as expected, and nothing else."""
    sources = (request.auth or {}, request.packet_query, request.handshake_query)
    device_id, session, app = (_first(name, sources) for name in QUERY_FIELDS)
    if isinstance(device_id, int):
        device_id = str(device_id)
    if not isinstance(device_id, str) or not device_id or not _is_clean(device_id, MAX_DEVICE_BYTES):
        raise ConnectRefused(f"deviceId: expected 1 to {MAX_DEVICE_BYTES} bytes of text")
    if session is not None and not isinstance(session, str):
        raise ConnectRefused("session: expected text")
    told = _read_machine((request.auth or {}).get("device") or {})
    return Hello(device_id, session or None, _read_app(app), told)


class ToldOfClient(Struct, frozen=True):
    """The words of a client that a backend has let in. Its repr has no session, which is secret."""

    session: str | None
    app: ClientApp | None
    machine: ClientDevice

    def __repr__(self) -> str:
        return "ToldOfClient()"


def read_told(request: ConnectRequest) -> ToldOfClient:
    """The words that are as expected; others are as none, so that no client is refused for them. Raises nothing."""
    auth = request.auth or {}
    session, app = (_first(name, (auth, request.packet_query, request.handshake_query)) for name in ("session", "app"))
    is_session = isinstance(session, str) and _is_clean(session, MAX_TOKEN_CHARACTERS)
    try:
        known_app = _read_app(app)
    except ConnectRefused:
        known_app = None
    try:
        machine = _read_machine(auth.get("device") or {})
    except ConnectRefused:
        machine = ClientDevice()
    return ToldOfClient(session if is_session else None, known_app, machine)


def is_clean_device(device_id: str) -> bool:
    """Whether every database and log line can hold a deviceId; the empty one is that of clients that told none."""
    return _is_clean(device_id, MAX_DEVICE_BYTES)


def _read_machine(told: Any) -> ClientDevice:
    machine = _convert("device", told, _Device)
    memory, cores = (None if value is None else round(value) for value in (machine.memory, machine.cores))
    return ClientDevice(machine.os, machine.os_version, machine.model, memory, cores)


def _first(name: str, sources: tuple[Any, ...]) -> Any:
    return next((source[name] for source in sources if source.get(name) is not None), None)


def _read_app(app: Any) -> ClientApp | None:
    """The program: an object, in a query its JSON or its name alone."""
    if app is None or app == "":
        return None
    if isinstance(app, str):
        try:
            app = msgspec.json.decode(app) if app.startswith("{") else {"name": app}
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            raise ConnectRefused("app: expected an object with a name") from None
    found = _convert("app", app, _App)
    return ClientApp(found.name, found.reference, found.version)


def _convert(field: str, value: Any, kind: Any) -> Any:
    try:
        found = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ConnectRefused(f"{field}: {str(error).replace('`', '')}") from None
    texts = [text for text in msgspec.structs.astuple(found) if isinstance(text, str)]
    if not all(_is_clean(text, 4 * MAX_ABOUT_CHARACTERS) for text in texts):
        raise ConnectRefused(f"{field}: expected whole characters")
    return found


def _is_clean(text: str, max_bytes: int) -> bool:
    """Whether every database and log line can hold the text."""
    try:
        return len(text.encode()) <= max_bytes and text.isprintable()
    except UnicodeEncodeError:
        return False


def arrival_of(request: ConnectRequest) -> Arrival:
    """The circumstances of a connect."""
    version, at = str(request.engine_version), now_ms()
    return Arrival(request.client_address, request.user_agent, version, request.tls, at, request.waited_ms)
