"""OpenTelemetry: the way of a message from POST /send over the bus to the acks, as spans. Off by default."""
