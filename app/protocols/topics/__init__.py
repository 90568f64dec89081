"""Topics over HTTP: event streams with MQTT's wildcards, as es-web-notify's clients know them, and the same as SSE."""
