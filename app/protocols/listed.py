"""The protocols that Recado speaks. Adding one is its folder and its line here; deleting one is the reverse."""

from app.protocols.channels.protocol import CHANNELS
from app.protocols.messenger.protocol import MESSENGER
from app.protocols.protocol import ProtocolSpec
from app.protocols.receipts.protocol import RECEIPTS
from app.protocols.redis_publish.protocol import REDIS_PUBLISH
from app.protocols.sites.protocol import SITES
from app.protocols.topics.protocol import TOPICS

#: The order decides which protocol is asked first when several serve the same Socket.IO namespace.
PROTOCOLS: tuple[ProtocolSpec, ...] = (SITES, CHANNELS, TOPICS, REDIS_PUBLISH, MESSENGER, RECEIPTS)
