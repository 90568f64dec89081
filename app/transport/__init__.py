"""WebSockets under uvicorn: picows parses, asyncio carries, a bounded outbox writes; knows no protocol above them."""
