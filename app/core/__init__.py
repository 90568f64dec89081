"""The decisions: rooms, devices, queues, connections, and the way of a message. No Redis, HTTP or protocol in here."""
