"""A backend with Pusher's package for Python. Reads an order as JSON, and writes the outcome of each of its calls."""

from __future__ import annotations

import json
import sys
from typing import Any

import pusher  # type: ignore[import-untyped]
import pusher.errors  # type: ignore[import-untyped]


def outcome(app: Any, name: str, arguments: list[Any]) -> dict[str, Any]:
    """Make one call."""
    calls = {
        "trigger": lambda channels, event, data, more: app.trigger(channels, event, data, more.get("socket_id")),
        "batch": app.trigger_batch,
        "channels": lambda more: app.channels_info(more.get("filter_by_prefix"), more.get("info", "").split(",")),
        "channel": lambda channel, more: app.channel_info(channel, more.get("info", "").split(",")),
        "users": app.users_info,
        "to_user": app.send_to_user,
        "terminate": app.terminate_user_connections,
    }
    try:
        return {"value": calls[name](*arguments)}
    except pusher.errors.PusherError as error:
        return {"error": type(error).__name__, "text": str(error)}


def main() -> None:
    """Run the calls of an order."""
    order = json.load(sys.stdin)
    app = pusher.Pusher(
        app_id=str(order["app_id"]),
        key=order["key"],
        secret=order["secret"],
        host=order["host"],
        port=order["port"],
        ssl=False,
        encryption_master_key_base64=order["master_key"],
    )
    json.dump([outcome(app, name, arguments) for name, *arguments in order["calls"]], sys.stdout)


main()
