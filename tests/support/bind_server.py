"""A website's bindUrl: maps bind keys to users, and records the requests to it."""

from __future__ import annotations

import json
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.waiting import Recording


class BindServer:
    """The HTTP server of a bindUrl, on a thread of its own. Listens on a free port from its creation to `end`."""

    def __init__(self) -> None:
        """Start the server."""
        #: The method, content type and body of each request.
        self.requests: Recording[tuple[str, str, str]] = Recording()
        self.headers: list[Message] = []
        #: The status and body of the answer to each key.
        self.answers: dict[str, tuple[int, bytes]] = {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_RETREIVE(self) -> None:  # the method of es-web-notify
                self.do_POST()

            def do_POST(self) -> None:
                owner.headers.append(self.headers)
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                owner.requests.add((self.command, self.headers["content-type"], body))
                status, answer = owner.answers.get(body, (404, b"nobody"))
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Write nothing to stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/whose"

    def know(self, key: str, user: object) -> None:
        """Answer this key with this user from now on."""
        self.answers[key] = (200, json.dumps(user).encode())

    def end(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
