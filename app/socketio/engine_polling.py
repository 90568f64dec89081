"""One request of a polling session: the long poll that fetches packets, the POST that brings them.

Thin over ASGI: the session decides. Never logs: the query holds the user's token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from app.socketio.engine_mailbox import Mailbox
from app.socketio.engine_packet import NOOP
from app.socketio.engine_payload import (
    BINARY_TYPE,
    MAX_PACKETS,
    SCRIPT_TYPE,
    TEXT_TYPE,
    Received,
    decode_payload_v3,
    decode_payload_v3_binary,
    decode_payload_v4,
    encode_payload,
    encode_script,
    payload_from_form,
)
from app.socketio.engine_posted import PACKETS_A_TURN, PostedPackets
from app.socketio.engine_request import Refusal, Response, Scope, wait_for_disconnect
from app.socketio.engine_session import EngineSession
from app.transport.refusals import BODY_TOO_SLOW, refused
from app.transport.request_body import BODY_TIMEOUT_SECONDS, BodyTooLarge, ClientGone, read_whole_body

_TRANSPORT_ERROR = "transport error"
_TRANSPORT_CLOSE = "transport close"


def payload_response(session: EngineSession, query: dict[str, str]) -> Response:
    """Answer with the session's waiting packets, in the form that the client reads."""
    supports_binary = session.supports_binary and "j" not in query
    packets = session.take_payload()
    body, content_type = encode_payload(packets, session.version, supports_binary, session.is_encoded_twice)
    session.count_bytes(0, len(body))
    if "j" in query:
        return Response(200, encode_script(query["j"], body), SCRIPT_TYPE)
    return Response(200, body, content_type)


async def answer_poll(session: EngineSession, query: dict[str, str], receive: Any) -> Response | None:
    """Answer as soon as a packet waits; None: the client gave up, which ends the session, as a second poll does."""
    mailbox = session.mailbox
    if mailbox is None:
        return Response.refusing(Refusal.BAD_REQUEST)
    session.poll_received()
    if mailbox.has_waiting_poll:
        session.close(_TRANSPORT_ERROR)  # which answers the first poll
        return Response.refusing(Refusal.BAD_REQUEST)
    if not mailbox.has_payload:
        watcher = asyncio.create_task(_watch(mailbox, receive))
        try:
            is_wanted = await mailbox.wait()
        finally:
            watcher.cancel()
        if not is_wanted:
            session.close(_TRANSPORT_CLOSE)
            return None
    return payload_response(session, query)


def release_poll(session: EngineSession) -> None:
    """Answer the waiting poll at once, or else the next one: the client polls again then, through another node."""
    if session.mailbox is not None and not session.mailbox.has_payload:
        session.send_encoded(NOOP)


async def answer_post(session: EngineSession, scope: Scope, query: dict[str, str], receive: Any) -> Response | None:
    """Read the body and hand its packets to the session, some in each turn of the loop; None: the client is gone.

    A body over its bound or its deadline, a second POST beside the first or a malformed packet ends the session.
    """
    if session.is_posting:
        session.close(_TRANSPORT_ERROR)
        return Response.refusing(Refusal.BAD_REQUEST)
    session.is_posting = True
    try:
        body = await _read(session, receive)
        if not isinstance(body, bytes):
            return body
        return await _work_off(session, scope, query, body)
    finally:
        session.is_posting = False


async def _read(session: EngineSession, receive: Any) -> bytes | Response | None:
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            return await read_whole_body(receive, session.max_message_bytes)
    except TimeoutError:
        refused[BODY_TOO_SLOW] += 1
        session.close(_TRANSPORT_ERROR)
        return Response.refusing(Refusal.TOO_SLOW)
    except BodyTooLarge:
        session.close(_TRANSPORT_ERROR)
        return Response.refusing(Refusal.TOO_LARGE)
    except ClientGone:
        session.close(_TRANSPORT_CLOSE)
        return None


async def _work_off(session: EngineSession, scope: Scope, query: dict[str, str], body: bytes) -> Response:
    session.count_bytes(len(body), 0)
    if session.listener is None:
        return Response.refusing(Refusal.UNKNOWN_SID)  # closed while the body was read
    posted = session.posted = PostedPackets(session, _packets_of(session, scope, query, body))
    try:
        has_more = posted.work(PACKETS_A_TURN)
        while has_more:
            await asyncio.sleep(0)
            has_more = posted.work(PACKETS_A_TURN)
    finally:
        session.posted = None
        session.unanswered = max(0, session.unanswered - posted.handled)
        posted.end()
    return Response.refusing(Refusal.BAD_REQUEST) if posted.is_refused else Response(200, b"ok", TEXT_TYPE)


async def _watch(mailbox: Mailbox, receive: Any) -> None:
    await wait_for_disconnect(receive)
    mailbox.poll_lost()


def _packets_of(session: EngineSession, scope: Scope, query: dict[str, str], body: bytes) -> Iterator[Received]:
    """The packets of a body, each decoded when it is asked for; raises MalformedPacket only then."""
    if "j" in query:
        body = payload_from_form(body)
    most = MAX_PACKETS + session.unanswered
    if session.version == 4:
        yield from decode_payload_v4(body, most)
    elif (b"content-type", BINARY_TYPE) in scope["headers"]:
        yield from decode_payload_v3_binary(body, most)
    else:
        yield from decode_payload_v3(body, session.is_encoded_twice, most)
