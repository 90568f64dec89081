"""The keys of Redis PUBLISH. They are in the application's Redis, which may be another than the server's.

The application's own keys begin with its prefix (`rm`) and have no hash tag:

| key | type | holds |
| --- | --- | --- |
| rm:users:<uid>:key | string | the key with which a user identifies itself |
| rm:users:<uid>:messages | list | the waiting messages of a user, oldest first |
| rm:channels:<cid>:subscribers | set | the users in a channel |
| rm.stream | stream | messages of the application, with the group `recado` |

| behind `recado:{rm:users:<uid>:messages}:` | type | holds |
| --- | --- | --- |
| connections | hash | node.number → place in the order of arrival, then `f` (fetches) or `l` (hears live) |
| told | list | messages told to those nodes that no client is known to have |
| state | hash | told, order: how many messages were told, and how many connections have come |
| taken | list | ids of the last 32 entries that came from the stream, newest first |
| id:<sha1> | string | an id that the application gave to a message of the stream, for a day |

| behind `recado:redis_publish:{rm}:` | type | holds |
| --- | --- | --- |
| nodes | sorted set | node by last beat; `recado:redis_publish:{rm}:<node>` is its channel |
| lease | string | the node that owns the subscription |
| offer | string | the same node, while it waits for another to take the lease over |
| drains | string | the last owner, while it may still deliver what it heard before the hand-over |
| encoding | string | `uri` once an entry of RedMessenger was found: payloads wait in encodeURI |
| held | string | the time when the lease was last known to be held (ms) |
| users:<node> | set | users with connections on a node |
| users:<node>:buried | set | the same of a dead node, while its connections are removed |
"""


def publish_prefix(prefix: str) -> str:
    """The begin of the keys and channels that Recado keeps for itself, beside the application's `prefix`."""
    return f"recado:redis_publish:{{{prefix}}}:"


def nodes_key(prefix: str) -> str:
    """The key of the nodes by last beat."""
    return publish_prefix(prefix) + "nodes"


def encoding_key(prefix: str) -> str:
    """The key of the encoding in which payloads wait."""
    return publish_prefix(prefix) + "encoding"


def node_users(prefix: str, node: str) -> str:
    """The key of the users with connections on a node."""
    return f"{publish_prefix(prefix)}users:{node}"


def user_key(prefix: str, user: str) -> str:
    """The application's key that holds a user's key."""
    return f"{prefix}:users:{user}:key"


def waiting_messages(prefix: str, user: str) -> str:
    """The application's key of a user's waiting messages."""
    return f"{prefix}:users:{user}:messages"


def channel_subscribers(prefix: str, channel: str) -> str:
    """The application's key of the users in a channel."""
    return f"{prefix}:channels:{channel}:subscribers"


def stream_key(prefix: str) -> str:
    """The application's key of its stream."""
    return f"{prefix}.stream"
