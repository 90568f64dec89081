"""Sends one webhook POST: resolves the name, judges the address, connects to exactly that address, reads the answer's
begin. A redirect is an answer. Knows no events and no retries."""

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from threading import Thread
from time import monotonic

import httpx

from app.backends.exact_pool import REASONS, default_context
from app.backends.exchange import cause_of, reason_of
from app.backends.hook_answer import HookAnswer

#: For the whole of it: resolving, connecting, sending, the answer.
POST_SECONDS = 10.0
#: The part of an answer that is read and kept.
MAX_SHOWN_BYTES = 1024
#: Names that are being resolved at a time. A resolver that hangs holds a thread for its own time, not for ours.
MAX_LOOKUPS = 256
#: Addresses of one name that are tried.
MAX_ADDRESSES = 3

#: IPv4 addresses within IPv6 ones (RFC 6052): a gateway leads to them.
_NAT64 = ip_network("64:ff9b::/96")
_LIMITS = httpx.Limits(max_connections=1, max_keepalive_connections=0)

Ip = IPv4Address | IPv6Address


class HookRefused(Exception):
    """The URL leads to no address that may be asked"""


class HookPoster:
    """Sends POSTs of all sites, each on a connection of its own. Lives as long as the node."""

    def __init__(self) -> None:
        #: The look-ups under way, one for each name.
        self._lookups: dict[tuple[str, int], asyncio.Future[list[Ip]]] = {}

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, may_be_private: bool) -> HookAnswer:
        """Sends the body; never raises for what a backend does, or does not."""
        begun = monotonic()
        status, text, error = 0, "", ""
        try:
            async with asyncio.timeout(POST_SECONDS):
                status, text = await self._post(url, headers, body, may_be_private)
        except HookRefused as refused:
            error = str(refused)
        except tuple(REASONS) as failure:
            error = f"{reason_of(failure, REASONS)} ({cause_of(_named(failure))})"
        return HookAnswer(status, int((monotonic() - begun) * 1000), text, error)

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes, may_be_private: bool) -> tuple[int, str]:
        target = httpx.URL(url)
        addresses = await self._resolve(target.host, target.port or (443 if target.scheme == "https" else 80))
        allowed = [ip for ip in addresses if may_be_private or is_public(ip)]
        if not allowed:
            raise HookRefused("the URL leads into a private network, which webhook.allow_private does not allow")
        for place, ip in enumerate(allowed[:MAX_ADDRESSES], 1):
            try:
                return await _post_to(ip, target, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if place == min(len(allowed), MAX_ADDRESSES):
                    raise
        raise AssertionError("the loop returns or raises: there is an address")

    async def _resolve(self, host: str, port: int) -> list[Ip]:
        try:
            return [ip_address(host.strip("[]"))]
        except ValueError:
            pass
        if (host, port) not in self._lookups:
            self._look_up(host, port)
        # A request that has waited for long enough leaves the look-up to others.
        return await asyncio.shield(self._lookups[host, port])

    def _look_up(self, host: str, port: int) -> None:
        if len(self._lookups) >= MAX_LOOKUPS:
            raise HookRefused("too many names are being resolved")
        loop = asyncio.get_running_loop()
        found = self._lookups[host, port] = loop.create_future()

        def ask() -> None:
            try:
                answer: list[Ip] | OSError | UnicodeError = _addresses_of(host, port)
            except (OSError, UnicodeError) as error:
                # Without the frames: this one holds it.
                answer = error.with_traceback(None)
            # Without a loop the node has ended meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, answer)

        def settle(answer: list[Ip] | OSError | UnicodeError) -> None:
            del self._lookups[host, port]
            if isinstance(answer, Exception):
                found.set_exception(answer)
                # Nobody may be waiting any more.
                found.exception()
            else:
                found.set_result(answer)

        # A thread of its own that may outlive the process: a hanging resolver delays neither other names nor the exit.
        Thread(target=ask, daemon=True, name="webhook look-up").start()


def is_public(ip: Ip) -> bool:
    """Whether the address belongs to the internet, and an address within it too."""
    if isinstance(ip, IPv6Address):
        within = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if ip in _NAT64:
            within = IPv4Address(int(ip) & 0xFFFFFFFF)
        if within is not None and not is_public(within):
            return False
        if ip.ipv4_mapped:
            return True
    return ip.is_global and not ip.is_multicast


def _addresses_of(host: str, port: int) -> list[Ip]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(str(address[4][0]).partition("%")[0]) for address in found))


async def _post_to(ip: Ip, target: httpx.URL, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
    """Sends to this address under the URL's name: no other look-up can lead elsewhere meanwhile."""
    own = {"host": target.netloc.decode("ascii"), "user-agent": "recado", "accept-encoding": "identity"}
    request = httpx.Request(
        "POST",
        target.copy_with(host=str(ip)),
        headers={**own, "content-type": "application/json", **headers},
        content=body,
        extensions={"sni_hostname": target.host},
    )
    transport = httpx.AsyncHTTPTransport(verify=default_context(), limits=_LIMITS)
    try:
        response = await transport.handle_async_request(request)
        shown = b""
        async for chunk in response.aiter_raw():
            shown += chunk[: MAX_SHOWN_BYTES - len(shown)]
            if len(shown) >= MAX_SHOWN_BYTES:
                break
        return response.status_code, shown.decode("utf-8", "replace")
    finally:
        await transport.aclose()


def _named(error: BaseException) -> BaseException:
    """The error behind httpx's, which says more."""
    return error.__cause__ if error.__cause__ and isinstance(error, httpx.HTTPError) else error
