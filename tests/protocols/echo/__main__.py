"""A server that speaks every listed protocol and `echo`, on the configuration in the working directory."""

import sys

from app.config.sources import Sources
from app.errors import ConfigError
from app.node.run import run
from app.observe.log import configure_logging
from app.protocols.listed import PROTOCOLS
from tests.protocols.echo.protocol import ECHO

configure_logging("info", "json")
#: The one entry.
SPECS = (*PROTOCOLS, ECHO)
try:
    sources = Sources()
    run(sources.load(SPECS), SPECS, sources)
except ConfigError as error:
    sys.exit(str(error))
