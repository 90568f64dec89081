"""The keys of messengers in Redis; their prefix and all other keys of a site are in `app/store/keys.py`.

| behind `recado:{site}:` | type | holds |
| --- | --- | --- |
| chat_failures:<login><address> | string | failed logins of a login from an address (digests), for `fail_window` |
| chat_blocked:<digest> | string | an address or a login (of it the address) that may not log in, for `block_seconds` |
| chat_lease | string | the node whose relay works, for some seconds |
| chat_online | hash | id of a user that others were told is online → since when, in ms |
"""
