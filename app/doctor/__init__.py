"""The doctor: looks at a running server from outside, and names what is wrong with the way in and the line to change.

It knows the wire and Redis, and nothing of the inside of a node. It needs no key.
"""
