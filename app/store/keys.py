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
| run | hash | id of the Redis process, restored: the last seq it knew when the first node came back to it |
| bus | hash | node → counter of what was published to it |
| members:<room> | set | nodes with connections in a room, in a site without queues |
| audience:<protocol>:<name> | set | nodes that listen to a name of a protocol: a channel, a topic |
| joined:<node> | set | the keys of the two kinds above, behind the prefix, that a node is in |
| history:<protocol> | stream | `<seq>-0` → at (ms), head, id, body of what was published to its audiences; bounded |
| histories | hash | <protocol>.last: seq of its last message, .floor: up to which some may be missing, .bytes |
| latest:<protocol> | hash | name that the protocol keeps → seq of the last message that its listeners may have got |
| gone:<protocol> | sorted set | digest of a deleted name, by the seq of the deletion, as far as the history reaches |

`lost` is the seq at which the device's queue was dropped, while a `_resync` is due; `rooms` is what `users` holds for
others, of a device in the public channel. A note is what the protocol wants to know when another node takes the
connection out: sites keep the user's token there, where they have an updateUserUrl, and nowhere else.

The other keys of a protocol are in the table of its folder: `app/protocols/<protocol>/redis_keys.py`.

Outside of any site: `recado:nodes` (sorted set, node by last beat; `~<node>`: dead, with sites that no other node has
known since), `recado:sites:<node>` (set, the names of its sites), `recado:place:<node>` (where it
listens for other nodes, as JSON, with an expiry), `recado:worker:<datacenter>:<worker>` (leases), and the
channels `recado:bus:<node>`; in a Cluster these are `recado:{site}:bus:<node>`.
"""

NODES = "recado:nodes"


def prefix(site: str) -> str:
    """What every key of a site begins with; the hash tag keeps a site on one Cluster shard."""
    return f"recado:{{{site}}}:"


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
