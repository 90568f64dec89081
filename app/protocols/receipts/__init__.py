"""Receipts: what became of a backend's messages, and what its users' devices hold; contract: `docs/delivery.md`."""
