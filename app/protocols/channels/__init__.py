"""The contract `channels`: HTTP publishers push into channels, and plain WebSockets subscribe; see docs/channels.md."""
