"""The demo: a site whose users this process knows itself, and a page to try it. Off by default."""
