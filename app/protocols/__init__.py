"""One folder for each public contract. Each protocol turns its wire format into calls of the core, and no protocol
imports another. The code that their HTTP requests share is in `http_request`."""
