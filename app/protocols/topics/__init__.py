"""Topics over HTTP: event streams with the wildcards of MQTT, for clients of
es-web-notify and as Server-Sent Events."""
