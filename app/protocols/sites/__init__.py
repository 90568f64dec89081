"""Sites: Engine.IO and Socket.IO towards the browsers, POST /send towards the backends."""
