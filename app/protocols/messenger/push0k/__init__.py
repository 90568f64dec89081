"""The import of a database of push0k: users, rooms, contacts, messages, receipts and attachments."""
