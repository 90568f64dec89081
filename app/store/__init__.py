"""The ports of `core/ports.py` on Redis: queues as Lua scripts, the bus as pub/sub, and the embedded server."""
