"""One folder for each public contract. Each turns its wire into calls of the core, and none imports another.

They share the reading of HTTP requests, `http_request`.
"""
