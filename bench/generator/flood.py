"""A tenant's backend that ignores its limit: POST /send at a steady rate until stdin is closed.

Prints `flooding` at the first refusal, and at its end the numbers of accepted and refused sends since then.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

from bench.generator.publisher import Endpoint

_CONNECTIONS = 8
_ROOMS = ["nobody"]
_REFUSED = 429


class Flood:
    """The flood, which lives as long as its process."""

    def __init__(self, endpoint: Endpoint, per_second: float) -> None:
        self._endpoint = endpoint
        self._request = endpoint.request(_ROOMS, 0)
        self._pause_seconds = _CONNECTIONS / per_second
        self.statuses: Counter[int] = Counter()

    async def run(self) -> None:
        """Send until stdin is closed."""
        loop = asyncio.get_running_loop()
        senders = [asyncio.create_task(self._send(number)) for number in range(_CONNECTIONS)]
        await loop.run_in_executor(None, sys.stdin.read)
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)

    async def _send(self, number: int) -> None:
        reader, writer = await asyncio.open_connection(*self._endpoint.address)
        loop = asyncio.get_running_loop()
        # Connections send in turn at fixed moments: a late answer must not lower the rate.
        due = loop.time() + number * self._pause_seconds / _CONNECTIONS
        try:
            while True:
                await asyncio.sleep(max(0.0, due - loop.time()))
                due += self._pause_seconds
                writer.write(self._request)
                self._count(await _status(reader))
        finally:
            writer.close()

    def _count(self, status: int) -> None:
        if status == _REFUSED and not self.statuses[status]:
            # The sends accepted until now belong to the burst that the limit allows.
            self.statuses.clear()
            print("flooding", flush=True)
        self.statuses[status] += 1


async def _status(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length[15:]))
    return int(head.split(b" ", 2)[1])


def main() -> None:
    """Flood the endpoint given as JSON, at the rate given behind it."""
    settings = json.loads(sys.argv[1])
    settings["address"] = tuple(settings["address"])
    flood = Flood(Endpoint(**settings), float(sys.argv[2]))
    asyncio.run(flood.run())
    accepted = flood.statuses.pop(200, 0)
    print(json.dumps({"accepted": accepted, "refused": flood.statuses.pop(_REFUSED, 0), "others": flood.statuses}))


if __name__ == "__main__":
    main()
