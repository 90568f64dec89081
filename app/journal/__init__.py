"""The journal: what became of each message at each device, in SQL. Nothing on the way of a message waits for it."""
