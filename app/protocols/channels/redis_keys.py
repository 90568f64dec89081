"""The keys of channels in Redis; their prefix and the keys of all audiences are in `app/store/keys.py`.

| behind `recado:{site}:` | type | holds |
| --- | --- | --- |
| channels | hash | channel → digest of its first token, which tells it from an earlier channel of the same name |
| renewed:channels | hash | channel → digest of its newest token, when it was created again (`recreate`) |
| clients:channels | hash | node → number of its subscribers |
| latest:channels | hash | channel → seq of the last message that its subscribers may have got |
| gone:channels | sorted set | digest of a deleted channel's first token, by the deletion's seq; while in the history |
| subscriber:<uuid> | hash | secret (its digest), claim, seq; subscribed, c:<channel>: see below |

`c:<channel>` of a subscriber is `<number>:<since seq>:<digest of the channel's first token>`, numbered by `subscribed`.
"""
