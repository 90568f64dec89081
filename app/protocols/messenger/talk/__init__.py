"""Conversations: messages, their changes, receipts, history and search, and their way to the core. Knows no login."""
