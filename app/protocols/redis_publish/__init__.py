"""Redis PUBLISH ingress: an application PUBLISHes into Redis, its users get it over Socket.IO or find it waiting."""
