"""The tenant's outbox: messages of a table of PostgreSQL, sent after their transactions have committed."""
