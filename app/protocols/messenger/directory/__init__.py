"""The directory of a messenger: users, rooms, contacts and devices, who may change and see them, and who is told."""
