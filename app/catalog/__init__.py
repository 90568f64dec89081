"""The sites that operators add, change and remove while nodes serve: SQL has them, Redis spreads them."""
