"""Internals of uvicorn and picows that Recado overrides, calls or reads. A list, used by no code.

These names are no documented interface: any release may change them. pyproject.toml therefore bounds both libraries
from above, and tests/transport/test_internals.py compares this list with the installed releases, and with the code of
`app`. Before a bound moves, the code around each name here has to be read again:

- `transport/http.py` derives from HttpToolsProtocol: it feeds the parser itself, within bounds of size and time,
  decides on upgrades, and takes the socket of a request over for a stream;
- `transport/http_head.py` derives from it too, and counts the headers;
- `transport/http_unread.py` derives from it too, sets its attributes in its place, and counts the time of a client that
  does not read;
- `transport/http_cycle.py` stands between RequestResponseCycle and the application;
- `transport/http_upgrade.py` derives from it too: it owns the socket in its place, and makes and feeds the WebSocket
  class (`transport/websocket.py`) instead of handle_websocket_upgrade;
- `transport/peer_socket.py` makes HTTP protocols for a second listening socket;
- `transport/share.py` keeps one object for each ServerState;
- `node/http_server.py` derives from Server: it drains between the signal and the end of accepting;
- `transport/parser.py` drives a picows parser that owns no socket.
"""

_SOCKETS = "(self, sockets=None)"
_PROTOCOL = "(self, config, server_state, app_state, _loop=None)"

#: uvicorn's callables by module and name, with their parameters.
UVICORN_CALLABLES = {
    "uvicorn.config:Config.load": "(self)",
    "uvicorn.lifespan.off:LifespanOff.__init__": "(self, config)",
    "uvicorn.protocols.http.flow_control:FlowControl.__init__": "(self, transport)",
    "uvicorn.protocols.http.flow_control:FlowControl.resume_reading": "(self)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.__init__": _PROTOCOL,
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol._get_upgrade": "(self)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol._should_upgrade": "(self)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol._start_asgi_task": "(self, cycle, app)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol._unset_keepalive_if_required": "(self)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.connection_lost": "(self, exc)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.connection_made": "(self, transport)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.data_received": "(self, data)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.eof_received": "(self)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.on_body": "(self, body)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.on_header": "(self, name, value)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.on_headers_complete": "(self)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.on_message_begin": "(self)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.on_message_complete": "(self)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.on_response_complete": "(self)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.pause_writing": "(self)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.resume_writing": "(self)",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.timeout_keep_alive_handler": "(self)",
    "uvicorn.protocols.http.httptools_impl:RequestResponseCycle.receive": "(self)",
    "uvicorn.protocols.utils:get_local_addr": "(transport)",
    "uvicorn.protocols.utils:get_remote_addr": "(transport)",
    "uvicorn.protocols.utils:is_ssl": "(transport)",
    # The form of a WebSocket class: uvicorn makes ours as it makes its own.
    "uvicorn.protocols.websockets.websockets_sansio_impl:WebSocketsSansIOProtocol.__init__": _PROTOCOL,
    "uvicorn.server:Server.__init__": "(self, config)",
    "uvicorn.server:Server.capture_signals": "(self)",
    "uvicorn.server:Server.handle_exit": "(self, sig, frame)",
    "uvicorn.server:Server.serve": _SOCKETS,
    "uvicorn.server:Server.shutdown": _SOCKETS,
    "uvicorn.server:Server.startup": _SOCKETS,
}

#: Attributes of uvicorn's objects, by class.
UVICORN_ATTRIBUTES = {
    "Config": (
        "access_log",
        "app",
        "asgi_version",
        "http_protocol_class",
        "limit_concurrency",
        "loaded",
        "loaded_app",
        "reset_contextvars",
        "root_path",
        "timeout_keep_alive",
        "ws_max_size",
        "ws_protocol_class",
    ),
    "FlowControl": ("write_paused",),
    # `url` exists from `on_message_begin` on.
    "HttpToolsProtocol": (
        "access_log",
        "access_logger",
        "app",
        "app_state",
        "asgi_version",
        "client",
        "config",
        "connections",
        "cycle",
        "expect_100_continue",
        "flow",
        "headers",
        "limit_concurrency",
        "logger",
        "loop",
        "parser",
        "pipeline",
        "root_path",
        "scheme",
        "scope",
        "server",
        "server_state",
        "tasks",
        "timeout_keep_alive",
        "timeout_keep_alive_task",
        "transport",
        "ws_protocol_class",
    ),
    "LifespanOff": ("state",),
    "RequestResponseCycle": (
        "body",
        "default_headers",
        "disconnected",
        "flow",
        "keep_alive",
        "message_event",
        "more_body",
        "on_response",
        "response_complete",
        "response_started",
        "scope",
        "transport",
        "waiting_for_100_continue",
    ),
    # `lifespan` and `servers` exist from `serve` and `startup` on.
    "Server": ("config", "force_exit", "server_state", "should_exit", "started"),
    "ServerState": ("connections", "default_headers", "tasks"),
}

#: The parameters of picows' parser, which takes them by position alone.
PICOWS_PARSER = (
    "host_port",
    "ws_path",
    "is_client_side",
    "ws_listener_factory",
    "logger",
    "disconnect_on_exception",
    "websocket_handshake_timeout",
    "enable_auto_ping",
    "auto_ping_idle_timeout",
    "auto_ping_reply_timeout",
    "auto_ping_strategy",
    "enable_auto_pong",
    "max_frame_size",
    "extra_headers",
    "read_buffer_init_size",
)

#: picows' methods by class, with their parameters.
PICOWS_METHODS = {
    "WSFrame.get_payload_as_bytes": "(self)",
    "WSListener.on_ws_frame": "(self, transport, frame)",
    "WSProtocol.buffer_updated": "(self, nbytes)",
    "WSProtocol.connection_made": "(self, transport)",
    "WSProtocol.get_buffer": "(self, size_hint)",
}

#: Attributes of picows' objects, by class.
PICOWS_ATTRIBUTES = {
    "WSFrame": ("fin", "msg_type", "rsv1", "rsv2", "rsv3", "tail_size"),
    "WSProtocol": ("transport",),
    "WSTransport": ("close_handshake",),
}
