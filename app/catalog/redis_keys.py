"""The keys of the stored sites in Redis. They belong to no site.

| behind `recado:catalog:{all}:` | type | holds |
| --- | --- | --- |
| marks | hash | version: of the newest change, reload: how often nodes were asked to read their files again |
| versions | sorted set | site by the version of its last change |
| sites | hash | site → its row of `site_settings` as JSON, with its keys |
| purger | string | the node that removes the keys of sites that leave, for half a minute |
"""

PREFIX = "recado:catalog:{all}:"
