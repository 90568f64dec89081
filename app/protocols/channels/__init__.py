"""The contract `channels`: HTTP publishers push into channels, plain WebSockets subscribe; see docs/channels.md."""
