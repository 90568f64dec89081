"""Engine.IO 3 and 4 and Socket.IO: sessions, packets, namespaces. Knows no site."""
