"""The keys of topics in Redis; their prefix and the keys of all audiences are in `app/store/keys.py`.

| behind `recado:{site}:` | type | holds |
| --- | --- | --- |
| topics:number | string | number of the site's last stream |
| topics:stream:<number> | hash | secret: digest of what extends it, extended: how often; gone with the stream |
| topics:clients | set | nodes that hold streams |
| topics:clients:<node> | hash | client id → the number of its streams on the node |
| topics:registry | hash | topic → who may publish and subscribe, as JSON |
| topics:seen:<digest> | string | a bind key was used; expires when the bind key is too old anyway |
| topics:answers:<question> | list | the answers of other nodes to a node's question; expires within seconds |
"""
