"""The names of everything Recado keeps in Redis. Scripts get a site's prefix; what they put behind it is listed here.

| behind `recado:{site}:` | type | holds |
| --- | --- | --- |
| seq | string | number of the site's last message |
| handle | string | number of the site's last device |
| devices | hash | device (length, user room, device id) → handle |
| device:<handle> | hash | user, device; c:<node>.<number>: a connection, `1` and its note; lost, rooms: see below |
| user:<user room> | hash | handle → state: `node,node` while connected, `@<deadline in ms>` (0: never) while away |
| room:<room, lower case> | hash | handle → state, the same, of the devices of the users in it |
| users | hash | user room → its rooms as JSON; for the public channel they are in `rooms` of device:<handle> |
| queue:<handle> | list | seqs of the messages that wait, oldest first |
| body:<seq> | hash | data, event, size, resync, at (ms), refs: how many queues hold it; gone with the last |
| bytes | hash | handle → bytes that wait, for queues long enough to matter |
| expiry | sorted set | handle by deadline, of devices that are away |
| node:<node> | set | handles connected to a node |
| buried:<node> | string | connections of this node with a note were taken out by another; kept for a day |
| seats | set | nodes that hold connections which a limit of the site counts |
| seats:<node> | hash | `all`, `address:<address>`, `user:<user room>` → how many of those connections the node holds |
| due | string | when what was sent would have been sent at `sends_per_second`, in ms; expires then |
| tickets | hash | key: what the site's resume tickets are signed with, generation: of those that count |
| revoked | sorted set | rooms, in lower case, by when tickets with them were revoked, in ms; for `max_age` |
| run | hash | id of the Redis process, restored: the last seq it knew when the first node came back to it |
| bus | hash | node → counter of what was published to it |
| members:<room> | set | nodes with connections in a room, in a site without queues |
| audience:<protocol>:<name> | set | nodes that listen to a name of a protocol: a channel, a topic |
| joined:<node> | set | the keys of the two kinds above, behind the prefix, that a node is in |
| history:<protocol> | stream | `<seq>-0` → at (ms), head, id, body of what was published to its audiences; bounded |
| histories | hash | <protocol>.last: seq of its last message, .floor: up to which some may be missing, .bytes |
| channels | hash | channel → digest of its token |
| latest:channels | hash | channel → seq of the last message that its subscribers may have got |
| gone:channels | sorted set | digest of a deleted channel's token, by the seq of that, as far as the history reaches |
| subscriber:<uuid> | hash | of channels: secret (its digest), claim, seq; subscribed, c:<channel>: see below |
| topics:number | string | number of the site's last stream of topics |
| topics:stream:<number> | hash | secret: digest of what extends it, extended: how often it was; gone with the stream |
| topics:clients | set | nodes that hold streams of topics |
| topics:clients:<node> | hash | client id → its streams on the node |
| topics:registry | hash | topic → who may publish and subscribe, as JSON |
| topics:seen:<digest> | string | a bind key was used; expires when it is too old anyway |
| topics:answers:<question> | list | what nodes answered to one that asked; expires within seconds |

`lost` is the seq at which the device's queue was dropped, while a `_resync` is due; `rooms` is what `users` holds for
others, of a device in the public channel. A note is what the protocol wants to know when another node takes the
connection out: sites keep the user's token there, where they have an updateUserUrl, and nowhere else.

Redis PUBLISH keeps the following in the application's Redis, which may be another, outside of `recado:{site}:`. Those
of the application have its prefix (`rm`) and no hash tag: `rm:users:<uid>:key` (string), `rm:users:<uid>:messages`
(list of what waits), `rm:channels:<cid>:subscribers` (set), `rm.stream` (stream with the group `recado`).

| behind `recado:{rm:users:<uid>:messages}:` | type | holds |
| --- | --- | --- |
| connections | hash | node.number → place in the order of arrival, then `f` (fetches what waits) or `l` (hears live) |
| told | list | messages told to those nodes that no client is known to have |
| state | hash | told, order: how many messages were told, and how many connections have come |
| taken | list | ids of the last 32 entries that came from the stream, newest first |
| id:<sha1> | string | an id that the application gave to a message of the stream, for a day |

| behind `recado:redis_publish:{rm}:` | type | holds |
| --- | --- | --- |
| nodes | sorted set | node by last beat; `recado:redis_publish:{rm}:<node>` is its channel |
| lease | string | the node that owns the subscription |
| offer | string | the same node, while it waits for another to take it over |
| held | string | when it was last known to be owned (ms) |
| users:<node> | set | users with connections on a node |

`c:<channel>` of a subscriber is `<number>:<since seq>:<digest of the channel's token>`, numbered by `subscribed`.

Outside of any site: `recado:nodes` (sorted set, node by last beat; `~<node>`: dead, with sites that no other node has
known since), `recado:sites:<node>` (set, the names of its sites), `recado:place:<node>` (where it
listens for other nodes, as JSON, with an expiry), `recado:worker:<datacenter>:<worker>` (leases), and the
channels `recado:bus:<node>`; in a Cluster these are `recado:{site}:bus:<node>`.
"""

NODES = "recado:nodes"


def prefix(site: str) -> str:
    """What every key of a site begins with; the hash tag keeps a site on one Cluster shard."""
    return f"recado:{{{site}}}:"


def publish_prefix(prefix: str) -> str:
    """What the keys and channels begin with that Redis PUBLISH keeps for itself, beside the application's `prefix`."""
    return f"recado:redis_publish:{{{prefix}}}:"


def bus_channel(node: str) -> str:
    """The channel on which a node hears of messages."""
    return f"recado:bus:{node}"


def shard_channel(node: str, site: str) -> str:
    """The channel on which a node hears of a site's messages in a Cluster."""
    return f"{prefix(site)}bus:{node}"


def node_sites(node: str) -> str:
    """The key that holds which sites a node serves, for those who bury it."""
    return f"recado:sites:{node}"


def worker_lease(datacenter: int, worker: int) -> str:
    """The key that holds which node uses a worker id."""
    return f"recado:worker:{datacenter}:{worker}"


def node_place(node: str) -> str:
    """The key that holds where a node listens for the others."""
    return f"recado:place:{node}"


def members_key(room: str) -> str:
    """Behind a site's prefix: who holds connections in a room."""
    return f"members:{room}"


def audience_key(protocol: str, name: str) -> str:
    """Behind a site's prefix: who listens to a name of a protocol."""
    return f"audience:{protocol}:{name}"
