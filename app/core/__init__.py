"""What decides: sites, devices, queues, who is here and what reaches whom. No Redis, HTTP or Socket.IO in here."""
