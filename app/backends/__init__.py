"""Requests over HTTP to the tenants' backends and to other nodes. The only package that uses httpx and aiohttp."""
