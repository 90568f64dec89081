"""The packages for backends as the table of cases sees them: one driver, a small program, for each language.

**How a language joins.** Write `tests/packages/drivers/driver.<ending>` and add a line to `LANGUAGES`; the whole table
in `test_cases.py` then runs for the language too. The driver reads one JSON object a line from stdin and writes one a
line to stdout, in the same order; it ends at the end of stdin. It uses nothing but the public names of its package.

A line in: `{"client": {...}, "call": "send", "with": {...}}`. The driver makes a client of these options, calls the
method with these values by name, and answers `{"result": ...}` or `{"error": {...}}`. Numbers of seconds may be
fractions. A driver may keep one client for equal options.

| option of `client` | meaning |
| --- | --- |
| `url`, `site`, `api_key` | the server; the URL may have a path and may end with a slash |
| `webhook_secret` | a text, or a list of texts while it is changed |
| `token_secret`, `token_issuer`, `token_audience` | for `sign_token` |
| `attempt_timeout` | seconds of one attempt, to the last byte of its answer; 10 unless given |
| `deadline` | seconds of a call with all its attempts and pauses; 30 unless given |
| `retries` | attempts after the first; 4 unless given |

| call | with | result |
| --- | --- | --- |
| `send` | `rooms`, `event`, `args`, options as in the query of `/send` | `{"id", "recipients", "replayed"}` |
| `send_batch` | `messages`: a list of objects of the names of `send` | a list of what the server answered for each |
| `message` | `id`, `limit`, `cursor`, `bodies` | the JSON answer of `GET /messages/<id>` |
| `withdraw` | `id` | the number of devices |
| `disconnect` | `user`, `device`, `room`, `text`, `reconnect` | the number of connections |
| `move_rooms` | `user`, `join`, `leave` | the number of devices |
| `verify_webhook` | `body` (a text), `headers` | the list of events |
| `sign_token` | `user`, `rooms`, `expires_in` (600), `claims` | the token |
| `auth_answer` | `rooms`: a list, or null to refuse | `{"status", "headers", "body"}`, header names in lower case |
| `describe` | | the client as the language prints it for a programmer: repr, inspect, var_dump |

`send` and `send_batch` also take `idempotency_key`; the package makes one of its own for each call otherwise. With
`wait` the result of `send` has also `acked` and `waiting`. `message` has a second name, `receipt`.

`error` is `{"kind", "text", "status", "code"}`, the last two where the server answered:

| kind | the package raises it when |
| --- | --- |
| `refused` | the server answers an error that no repeat mends, or the last attempt was answered with an error |
| `unreachable` | the last attempt brought no answer, or not in time |
| `bad_answer` | the answer is longer than 4 MB, or is not what it should be |
| `bad_webhook` | a webhook is not signed, signed by another, older or newer than 5 minutes, or too long (1 MB) |
| `bad_input` | a value cannot be meant, and nothing was sent |

**Repeats** follow no answer, and the statuses 408, 429, 500, 502, 503 and 504. The pause before repeat n (from 0) is
`min(5, 0.2 * 2**n)` seconds times a random number from 0.5 to 1, and at least the answer's `Retry-After`. When the
pause would pass the deadline, the call ends at once with the last error. Redirects are not followed. A repeat of
`withdraw` that is answered 404 gives 0: the attempt before it may have taken the message away.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes import REPOSITORY, ChildProcess
from tests.support.waiting import Recording, eventually

_DRIVERS = Path(__file__).parent / "drivers"
_PYTHON = {"PYTHONPATH": str(REPOSITORY / "clients" / "python")}
_ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Language:
    """One package: the command of its driver, and what the environment of the driver has beside ours."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]

    def __str__(self) -> str:
        """The name in pytest's output."""
        return self.name


LANGUAGES = (
    Language("python", (sys.executable, str(_DRIVERS / "driver.py")), _PYTHON),
    Language("python-async", (sys.executable, str(_DRIVERS / "driver.py"), "async"), _PYTHON),
    Language("node", ("node", str(_DRIVERS / "driver.mjs")), {}),
    Language("php", ("php", str(_DRIVERS / "driver.php")), {}),
    Language("ruby", ("ruby", "-w", str(_DRIVERS / "driver.rb")), {}),
)


class Refusal(Exception):
    """A call of a package that raised; `kind`, `status` and `code` are those of the docstring above."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        """Keep the driver's words."""
        super().__init__(str(error))
        self.kind: str = error["kind"]
        self.text: str = error["text"]
        self.status: int | None = error.get("status")
        self.code: str | None = error.get("code")


class Package:
    """One language's driver, a process for all cases of a module. The code that makes it calls `end`."""

    def __init__(self, language: Language) -> None:
        """Start the driver."""
        self.language = language
        self._process = _Driver(language)
        self._asked = 0

    def call(self, client: Mapping[str, Any], name: str, **values: Any) -> Any:
        """Call one method of the package; its result, or `Refusal`."""
        line = json.dumps({"client": dict(client), "call": name, "with": values})
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()
        self._asked += 1
        eventually(self._is_answered, f"an answer of {self.language} to {name}", _ANSWER_SECONDS, 0.002)
        assert len(self._process.answers) == self._asked, f"the driver of {self.language} ended"
        answer = json.loads(self._process.answers.snapshot()[-1])
        if "error" in answer:
            raise Refusal(answer["error"])
        return answer["result"]

    def _is_answered(self) -> bool:
        return len(self._process.answers) >= self._asked or self._process.returncode is not None

    def output(self) -> str:
        """Everything that the driver has written to stderr: where its package logs."""
        return "\n".join(self._process.lines.snapshot())

    def end(self) -> None:
        """End the driver."""
        self._process.end()


class _Driver(ChildProcess):
    """The process; stdout holds its answers."""

    def __init__(self, language: Language) -> None:
        self.answers: Recording[str] = Recording()
        # No test speaks to anything but this machine, whatever proxy the environment names.
        environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        super().__init__(language.name, language.command, _DRIVERS, environment | dict(language.environment))

    def stdout_line(self, line: str) -> None:
        self.answers.add(line)
