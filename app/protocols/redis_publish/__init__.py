"""Redis PUBLISH ingress: an application PUBLISHes a message into Redis. A connected user gets it over Socket.IO; for
an absent user it waits in a mailbox."""
