"""The names of all keys of Recado in Redis. Scripts get a site's prefix and append the names that are listed here.

| after `recado:{site}:` | type | holds |
| --- | --- | --- |
| seq | string | number of the site's last message |
| handle | string | number of the site's last device |
| devices | hash | device (length, user room, device id) → handle |
| device:<handle> | hash | user, device, lost, (device_)rooms, written, withdrawn, via, client<n>; c:<node>.<n>: note |
| user:<user room> | hash | handle → state: `node,node` while connected, `@<deadline in ms>` (0: never) while away |
| room:<room, lower case> | hash | handle → state, the same, of the devices of the users in it |
| users | hash | user room → its rooms as JSON; for the public channel they are in `rooms` of device:<handle> |
| rooms_at | string | number of the last change of rooms with a number; see `lua/change_rooms.lua` |
| queue:<handle> | list | seqs of the waiting messages, oldest first |
| flights | hash | seq → a message in flight: its devices by node, and all that its body has; see `lua/_flights.lua` |
| flights:done | hash | `<seq> <node>` → how many of these devices are done, and their places as bits |
| flying | string | the devices of all messages in flight |
| resting | set | handles of connected devices with entries in their queue: their messages do not fly |
| body:<seq> | hash | data, event, size, resync, at (ms), id, rooms (JSON), refs: how many queues hold it; see below |
| waiting | sorted set | id of a message that waits, by its seq |
| to:<seq> | set | of a message with options: handles of the devices that got it |
| collapse:<handle> | hash | key of the option collapse → seq of the newest message with it |
| ttl | sorted set | seq of a message by the ms of its end |
| within | sorted set | seq of a message by the ms at which the backend is told of users without an ack |
| waits | sorted set | seq of a message by the ms at which its request stops to wait for acks |
| watched | hash | seq → id and event as JSON, for messages in `within` |
| pending:<seq> | set | users of such a message of whom no device has acknowledged |
| once:<digest> | string | idempotency key → digest of its request, message id, recipients, seq; expires |
| fate | stream | what happened, for the journal; see lua/_fates.lua |
| large | hash | a message that is stored in parts; see lua/_large.lua |
| large:handles | list | the devices that have it |
| sent:<id> | string | how such a message was answered, for a minute |
| originals | sorted set | lists of socket.io-webservice, named behind `/<site>:socket.io:`; see originals.py |
| stored | hash | messages, bytes: bodies with the field `counted`, in a site with a limit of them |
| bytes | hash | handle → waiting bytes, for queues that are long enough to matter |
| expiry | sorted set | handle by deadline, for devices that are away |
| node:<node> | set | handles connected to a node |
| buried:<node> | string | another node has taken out connections of this node with a note; kept for a day |
| seats | set | nodes with connections that a limit of the site counts |
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
| renewed:<protocol> | hash | name → the value that guards compare with, where it is not the name's first one |
| gone:<protocol> | sorted set | digest of a deleted name, by the seq of the deletion, as far as the history reaches |
| hook_events | set | types of the events that the site's webhook names, set by nodes when they begin to serve it |
| hook_grace | string | ms without any device after which a user counts as offline |
| hook_seq | string | number of the site's last event |
| hooks | stream | seq, type, at (ms), user, data (JSON) of events that are in no post yet; see `lua/_emit.lua` |
| hook_counts | hash | bytes: of the events in `hooks` and in posts; dropped: events lost to the bound, or a 410 |
| hook_lease | string | the node that sends the site's events, for a few seconds |
| hook_off | string | digest of the webhook's configuration that was answered 410 |
| hook_posts | sorted set | posts of the webhook that were not answered yet, by the time of the next attempt |
| hook_post:<post> | hash | body, at (ms), users, seqs (JSON), types, bytes, tries, replayed: it was parked before |
| hook_parked | sorted set | posts that were given up, by that time; their bytes are parked_bytes in `hook_counts` |
| hook_attempts | list | the last attempts as JSON, newest first |
| online | hash | user room → when the backend was told that the user is online, in ms |
| leaving | sorted set | user room without any device by the time when the backend is to be told |
| presence | string | grace in ms and most members of a site with presence; expires, see `lua/_inside.lua` |
| present | hash | user room → since when the user is present, in ms; expires without beats |
| parting | sorted set | user room of a present user without any device by the end of its grace; expires without beats |
| watched | set | rooms, lower case, with a watcher on any node |
| watching:<node> | set | the rooms that a node watches |
| watch:<room, lower case> | hash | version, is_read: its users are known, n:<node>: 1 for each node that watches it |
| inside:<room, lower case> | hash | user room → since when, in ms, of the present users in a watched room |
| watch_quiet:<room, lower case> | string | a change in a room with too many users was told within a second |
| key_uses | hash | name of an API key → when it was last used, in ms, to within some seconds |
| on_nodes | hash | node → its connections, and how authUrl does there, as JSON; see `app/catalog/site_facts.py` |
| nothing | none | never there: scripts that free memory begin with its deletion, see `lua/_frees.lua` |

A message in flight has no body, no place in `waiting` and no entry in a queue; for the devices for which it has landed
it has all of them. A body is deleted with its last queue. `opt` are the options of its message as JSON, `waiter` the
node that waits for its acks, `late` tells that its backend was told of users without an ack.

`lost` is the seq at which the device's queue was dropped, while a `_resync` is due. `written` is the highest seq that
was written to it before its connections ended. `rooms` holds the rooms of a device in the public channel; for other
devices `users` holds them. `via` is the transport of the newest connection. `client0`, `client1`, ... are the parts of
one text: its length, a space, the time of that connect, and the client's description. A note is kept for the protocol,
which gets it when another node takes the connection out: a site with an updateUserUrl keeps the user's token there, and
nowhere else.

The other keys of a protocol are in the table of its folder: `app/protocols/<protocol>/redis_keys.py`.

The site `~canary` is the server's own, see `app/canary`: it has the keys of a site with queues, and no `fate`.

Outside of any site: `recado:nodes` (sorted set, node by last beat; `~<node>`: a dead node with sites that no other node
has known since), `recado:nodes:landing` (set, the nodes that land messages in flight),
`recado:sites:<node>` (set, the names of its sites), `recado:place:<node>` (JSON, where it listens for
other nodes, with an expiry), `recado:facts:<node>` (JSON, its figures for operators, with an expiry),
`recado:worker:<datacenter>:<worker>` (leases), `recado:fate` (stream, rows of nodes for the journal), `recado:journal`
(hash, figures of its writer), `recado:journal:lease` (the writer that works), `recado:console:session:<digest>` (JSON,
a login of an operator, with an expiry), `recado:console:failures:<digest>` (failed logins of a name from an address,
with an expiry), `recado:console:oidc:<digest>` (a login at a provider that has been used, with an expiry),
`recado:console:pruning` and `recado:console:pruned` (JSON, the removal of old rows that an operator
has begun, and the last one), and the channels `recado:bus:<node>` and, with tracing, `recado:traces`; in a Cluster the
channels are `recado:{site}:bus:<node>` and `recado:{site}:traces`, and `recado:bus:<node>` for calls between nodes.
"""

from app.surrogates import encode_text

NODES = "recado:nodes"
#: The nodes that land messages in flight; see `app/store/flights.py`.
LANDING_NODES = "recado:nodes:landing"


def prefix(site: str) -> str:
    """The beginning of every key of a site; the hash tag keeps a site on one shard of a Cluster."""
    return f"recado:{{{site}}}:"


def bus_channel(node: str) -> str:
    """The channel on which a node hears messages."""
    return f"recado:bus:{node}"


def shard_channel(node: str, site: str) -> str:
    """The channel on which a node hears a site's messages in a Cluster."""
    return f"{prefix(site)}bus:{node}"


def traces_channel(site: str, is_sharded: bool) -> str:
    """The channel on which nodes with tracing tell each other which messages of a site are traced."""
    return f"{prefix(site)}traces" if is_sharded else "recado:traces"


def node_sites(node: str) -> str:
    """The key with the names of a node's sites, for the nodes that bury it."""
    return f"recado:sites:{node}"


def worker_lease(datacenter: int, worker: int) -> str:
    """The key with the name of the node that uses a worker id."""
    return f"recado:worker:{datacenter}:{worker}"


def node_place(node: str) -> str:
    """The key with the place where a node listens for the others."""
    return f"recado:place:{node}"


def node_facts(node: str) -> str:
    """The key with a node's facts for operators."""
    return f"recado:facts:{node}"


def members_key(room: str) -> str:
    """After a site's prefix: the nodes with connections in a room."""
    return f"members:{room}"


def audience_key(protocol: str, name: str) -> str:
    """After a site's prefix: the nodes that listen to a name of a protocol."""
    return f"audience:{protocol}:{name}"


def device_field(user_room: str, device_id: str) -> bytes:
    """The field of a device in `devices`, as lua/_devices.lua makes it."""
    user = encode_text(user_room)
    return b"%d:%b:%b" % (len(user), user, encode_text(device_id))
