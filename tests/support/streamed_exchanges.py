"""Recorded exchanges with es-web-notify: played against a server, written to a file, and compared.

A file holds JSON: `note` (the origin of the answers), `exchanges`, `differences`. An exchange is a list of steps:

    {"request": "POST /event?token={key}", "json": ... | "text": "...", "answer": {"status", "reason", "type", "body"}}
    {"subscribe": "a", "json": ... | "text": "...", "answer": {"status", "reason", "type"}}
    {"close": "a"}
    {"end": "a"}: wait until the server has ended the stream

`arrivals` of a step are the events that arrived at each stream in its wake, without `iat`; `recado` says how many
arrive from Recado, where that is another number. Numbers and secrets of connections differ from run to run, so a file
names them: `{conn:a}`, `{secret:a}`, `{next}` for the next number. `{host}` is the server's address, `{mb}` an amount
of memory.

`python -m tests.support.streamed_exchanges FILE URL KEY` records: it plays the steps and writes the answers.
"""

from __future__ import annotations

import json
import re
import sys
import time
from itertools import zip_longest
from pathlib import Path
from typing import Any

import httpx

from tests.support.exchanges import read_exchanges, write_exchanges
from tests.support.topic_client import TopicStream
from tests.support.waiting import eventually

Step = dict[str, Any]

_QUIET_SECONDS = 0.3
_TIMEOUT_SECONDS = 30.0
_NAMED_NUMBER = re.compile(r'"\{conn:\w+\}"')
_NAME = re.compile(r"\{(?:conn|secret):\w+\}|\{key\}")
_MEMORY = re.compile(r"^\d+(\.\d+)? MB$")


class TopicPlayer:
    """Plays one exchange against one server; `close` ends its streams."""

    def __init__(self, url: str, key: str) -> None:
        """Nothing is sent yet."""
        self._url = url
        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT_SECONDS)
        self._streams: dict[str, TopicStream] = {}
        self._read: dict[str, int] = {}
        self._values: dict[str, Any] = {"{key}": key}

    def close(self) -> None:
        """End all streams, and wait until the server counts none."""
        for name in [*self._streams]:
            self._close(name)
        eventually(lambda: self._http.get("/connections").text == "{}", "the streams to end")
        self._http.close()

    def play(self, step: Step, expected: dict[str, int] | None = None) -> Step:
        """Do what a step says. Returns the step with the answers of this server. `expected` is the number of events to
        await at each stream; None: all that arrive until it is quiet."""
        done = {key: value for key, value in step.items() if key not in ("answer", "arrivals")}
        if "request" in step:
            done["answer"] = self._request(step)
        elif "subscribe" in step:
            done["answer"] = self._subscribe(step)
        elif "end" in step:
            assert self._streams[step["end"]].ended.wait(_TIMEOUT_SECONDS)
        else:
            self._close(step["close"])
        arrivals = self._arrivals(expected)
        if arrivals:
            done["arrivals"] = arrivals
        return done

    def late(self) -> dict[str, list[Any]]:
        """Events that arrived beyond the expected ones."""
        return self._arrivals(None)

    def _request(self, step: Step) -> Step:
        method, _, path = step["request"].partition(" ")
        return self._answer(self._http.request(method, self._filled(path), content=self._content(step)))

    def _subscribe(self, step: Step) -> Step:
        stream = TopicStream(httpx.Request("POST", f"{self._url}/", content=self._content(step)))
        stream.__enter__()
        if stream.response.status_code == 200:
            self._streams[step["subscribe"]] = stream
            greeting = stream.wait_type("connected")["e"]["detail"]
            self._values[f"{{conn:{step['subscribe']}}}"] = greeting["connid"]
            self._values[f"{{secret:{step['subscribe']}}}"] = greeting["secret"]
            return self._head(stream.response)
        stream.ended.wait(_TIMEOUT_SECONDS)
        stream.__exit__()
        return self._head(stream.response)

    def _close(self, name: str) -> None:
        self._streams.pop(name).__exit__()

    def _head(self, response: httpx.Response) -> Step:
        return {
            "status": response.status_code,
            "reason": response.reason_phrase,
            "type": response.headers.get("content-type"),
            "cors": response.headers.get("access-control-allow-origin"),
        }

    def _answer(self, response: httpx.Response) -> Step:
        is_json = "json" in response.headers.get("content-type", "")
        body = json.loads(response.text) if is_json else response.text
        if isinstance(body, dict) and "secret" in body:
            name = next(name for name, value in self._values.items() if value == body["connid"])
            self._values[name.replace("conn", "secret")] = body["secret"]
        return {**self._head(response), "body": self._named(body)}

    def _content(self, step: Step) -> bytes:
        text = json.dumps(step["json"]) if "json" in step else step.get("text", "")
        return self._filled(_NAMED_NUMBER.sub(lambda found: found[0][1:-1], text)).encode()

    def _filled(self, text: str) -> str:
        return _NAME.sub(lambda found: str(self._values.get(found[0], found[0])), text)

    def _arrivals(self, expected: dict[str, int] | None) -> dict[str, list[Any]]:
        until = time.monotonic() + _TIMEOUT_SECONDS
        if expected is None:
            quiet_until = time.monotonic() + _QUIET_SECONDS
            eventually(lambda: time.monotonic() > quiet_until, "it to be quiet")
        found: dict[str, list[Any]] = {}
        for name, stream in self._streams.items():
            seen = self._read.get(name, 0)
            if expected and expected.get(name):
                stream.wait(seen + expected[name], max(0.1, until - time.monotonic()))
            events = stream.events.snapshot()[seen:]
            if expected is not None:
                events = events[: expected.get(name, 0)]
            self._read[name] = seen + len(events)
            if events:
                found[name] = [
                    self._named({key: value for key, value in one.items() if key != "iat"}) for one in events
                ]
        return found

    def _named(self, value: Any, field: str = "") -> Any:
        """The value with names in the place of the things that differ from run to run."""
        if isinstance(value, dict):
            return {self._named(key, "connid"): self._named(inner, key) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._named(inner) for inner in value]
        if field == "nextId":
            return "{next}"
        if field in ("connid", "secret"):
            kind = f"{{{field.removesuffix('id')}:"
            return next(
                (name for name, known in self._values.items() if name.startswith(kind) and str(known) == str(value)),
                value,
            )
        if isinstance(value, str) and _MEMORY.match(value):
            return "{mb}"
        return value.replace(self._url.partition("://")[2], "{host}") if isinstance(value, str) else value


def expected_of(step: Step) -> dict[str, int]:
    """How many events a recorded step brings to each stream of Recado."""
    numbers: dict[str, int] = step.get("recado", {name: len(found) for name, found in step.get("arrivals", {}).items()})
    return numbers


def differences(recorded: Any, ours: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """The fields that differ: path -> (recorded, ours). A field that is absent is None."""
    if isinstance(recorded, dict) and isinstance(ours, dict):
        parts = [(key, recorded.get(key), ours.get(key)) for key in dict.fromkeys((*recorded, *ours))]
    elif isinstance(recorded, list) and isinstance(ours, list):
        pairs = zip_longest(recorded, ours)
        parts = [(str(index), left, right) for index, (left, right) in enumerate(pairs)]
    else:
        return {} if (recorded, type(recorded)) == (ours, type(ours)) else {path: (recorded, ours)}
    found: dict[str, tuple[Any, Any]] = {}
    for key, left, right in parts:
        found |= differences(left, right, f"{path}.{key}" if path else key)
    return found


def record(file: Path, url: str, key: str) -> None:
    """Plays the steps of a file against the original, and writes its answers into the file."""
    content = read_exchanges(file)
    for exchange in content["exchanges"]:
        player = TopicPlayer(url, key)
        exchange["steps"] = [player.play(step) for step in exchange["steps"]]
        player.close()
    write_exchanges(file, content)


if __name__ == "__main__":
    record(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
