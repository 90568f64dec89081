"""The keys of sites in Redis beside the queues; their prefix and all other keys of a site are in `app/store/keys.py`.

| behind `recado:{site}:` | type | holds |
| --- | --- | --- |
| tickets | hash | key: the signing key of the site's resume tickets, generation: the generation of the valid ones |
| revoked | sorted set | rooms, in lower case, by the last revocation of their tickets (ms); for `max_age` |
"""
