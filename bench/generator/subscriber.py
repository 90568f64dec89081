"""A subscriber of a channel: the contract `channels` over a raw WebSocket, in place of a device."""

from __future__ import annotations

import json

from bench.generator.device import Device, State
from bench.generator.frames import TEXT
from bench.generator.poller import GeneratorError

_PUSH = b'{"messageType":"CLIENT_PUSH"'
_ACK = b'{"messageType":"CLIENT_ACK"'
_MESSAGE = b'"message":"'


class Subscriber(Device):
    """A subscriber, which lives as a device does; ready once it has subscribed."""

    __slots__ = ()

    @property
    def _path(self) -> str:
        return f"/channels/{self.target.namespace}"

    def _read_frame(self, opcode: int, packet: bytes) -> None:
        if opcode != TEXT:
            self._read_control_frame(opcode, packet)
        elif packet.startswith(_PUSH):
            self._recorder.message(self, packet, packet.rindex(_MESSAGE) + len(_MESSAGE))
        elif not packet.startswith(_ACK):
            raise GeneratorError(f"a subscriber was told {packet[:200]!r}")
        elif self._state is State.OPENING:
            self._state = State.JOINING
            data = {"channel": self.target.channel}
            self.write(json.dumps({"messageType": "CLIENT_ACTION", "action": "SUBSCRIBE", "data": data}).encode())
        else:
            self._state = State.READY
            self._recorder.ready(self)
