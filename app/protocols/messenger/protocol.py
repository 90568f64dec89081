"""The protocol of messengers: its namespaces, and its life on a node."""

from app.protocols.messenger.figures import METRICS
from app.protocols.messenger.settings import SECTION, check_sections
from app.protocols.protocol import NodeProtocol, NodeServices, ProtocolSpec


class _NodeMessenger(NodeProtocol):
    """The messengers of one node. Lives as long as the node."""

    def __init__(self, services: NodeServices) -> None:
        self._services = services


MESSENGER = ProtocolSpec("messenger", _NodeMessenger, section=SECTION, check_sites=check_sections, metrics=METRICS)
