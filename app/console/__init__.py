"""The console: operators' pages under `/console`, and their API under `/api/v1`, both from the same operations."""
