"""The keys of channels in Redis; their prefix and the keys of all audiences are in `app/store/keys.py`.

| behind `recado:{site}:` | type | holds |
| --- | --- | --- |
| channels | hash | channel → digest of its token |
| latest:channels | hash | channel → seq of the last message that its subscribers may have got |
| gone:channels | sorted set | digest of a deleted channel's token, by the seq of the deletion; while in the history |
| subscriber:<uuid> | hash | secret (its digest), claim, seq; subscribed, c:<channel>: see below |

`c:<channel>` of a subscriber is `<number>:<since seq>:<digest of the channel's token>`, numbered by `subscribed`.
"""
