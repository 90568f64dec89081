"""One folder for each public contract; each turns its wire into calls of the core, and none imports another. What their
HTTP requests have in common is in `http_request`."""
